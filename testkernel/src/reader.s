# The program that every task runs in ring 3, for ever: read a random page, and check its version.
# rbx random state, rdi the board (a floor for each page), rsi the first page, r12 the CPU, r13 the space.

.section .user, "ax"
.global reader
reader:
    mov rax, rbx                        # xorshift64
    shl rax, 13
    xor rbx, rax
    mov rax, rbx
    shr rax, 7
    xor rbx, rax
    mov rax, rbx
    shl rax, 17
    xor rbx, rax
    mov rcx, rbx                        # rcx: which page
    shr rcx, 20
    and ecx, 31
    mov rdx, rcx                        # rdx: its address; eight pages in each gibibyte
    shr rdx, 3
    shl rdx, 30
    mov eax, ecx
    and eax, 7
    shl eax, 12
    add rdx, rax
    add rdx, rsi
    mov r8, [rdi + rcx * 8]             # the floor first, the page second: loads stay in order
    mov r9, [rdx]
    mov r10, r9
    shr r10, 32
    mov r11, r13
    shl r11, 16
    or r11, rcx
    cmp r10, r11                        # another page's contents?
    jne wrong
    cmp r9d, r8d                        # an older version than the last flush left?
    jb wrong
    test ebx, 3
    jnz 1f
    mov [rdx + r12 * 8 + 64], r9        # write now and then: the page may be read-only by now
1:  inc r15
    test r15d, 63
    jnz 2f
    pause
2:  test r15d, 255
    jnz reader
    mov eax, 1                          # ask the kernel for a change of this space
    int 0x80
    jmp reader
wrong:
    mov eax, 2
    int 0x80
    jmp reader

# Reads the address in rdi: for the check of what is mapped in ring 3.
.global probe
probe:
    mov rax, [rdi]
    mov eax, 3
    int 0x80
    jmp probe
