# Interrupts and exceptions. Every gate has a stack of its own (IST), because the precompiled `core` uses the
# red zone below the stack pointer; interrupts stay off on it. Vector and error code are pushed, then:
# from the kernel, registers and SSE state are saved around a call; from ring 3, the registers go to
# the user context, and `enter_user` returns.
#
# With page-table isolation, this section, `.entry_data` and the tops of those stacks are all of the kernel that is mapped
# in ring 3. So the first that is done after ring 3 is to load the kernel half, and the last before it to load the user half.
# A word of 0 stands for "there is no other half".

.section .entry, "ax"
.altmacro
.macro stub vector
    .align 16
    .if (\vector == 8) || ((\vector >= 10) && (\vector <= 14)) || (\vector == 17) || (\vector == 21)
    .else
    push 0
    .endif
    push \vector
    jmp trap_common
.endm

.align 16
.global trap_stubs
trap_stubs:
.set vector, 0
.rept 256
    stub %vector
    .set vector, vector + 1
.endr

trap_common:
    test byte ptr [rsp + 24], 3         # the interrupted CS
    jnz trap_from_user
    push rax
    push rcx
    push rdx
    push rbx
    push rbp
    push rsi
    push rdi
    push r8
    push r9
    push r10
    push r11
    push r12
    push r13
    push r14
    push r15
    mov rdi, rsp
    mov rbx, rsp
    sub rsp, 512
    and rsp, -16
    fxsave64 [rsp]
    cld
    call trap_from_kernel
    fxrstor64 [rsp]
    mov rsp, rbx
    pop r15
    pop r14
    pop r13
    pop r12
    pop r11
    pop r10
    pop r9
    pop r8
    pop rdi
    pop rsi
    pop rbp
    pop rbx
    pop rdx
    pop rcx
    pop rax
    add rsp, 16
    iretq

# The user context, as `UserContext` lays it out: 15 registers, rip, rflags, rsp, vector, error.
trap_from_user:
    push rax
    mov rax, gs:[32]
    test rax, rax
    jz 1f
    push rcx
    mov rcx, cr3                        # what ring 3 ran under: for the check in `isolation.rs`
    mov gs:[40], rcx
    pop rcx
    mov cr3, rax
1:  mov rax, gs:[8]
    mov [rax + 8], rcx
    mov [rax + 16], rdx
    mov [rax + 24], rbx
    mov [rax + 32], rbp
    mov [rax + 40], rsi
    mov [rax + 48], rdi
    mov [rax + 56], r8
    mov [rax + 64], r9
    mov [rax + 72], r10
    mov [rax + 80], r11
    mov [rax + 88], r12
    mov [rax + 96], r13
    mov [rax + 104], r14
    mov [rax + 112], r15
    pop qword ptr [rax]
    pop qword ptr [rax + 144]           # vector
    pop qword ptr [rax + 152]           # error code
    pop qword ptr [rax + 120]           # rip
    add rsp, 8
    pop qword ptr [rax + 128]           # rflags
    pop qword ptr [rax + 136]           # rsp
    mov rsp, gs:[16]
    pop r15
    pop r14
    pop r13
    pop r12
    pop rbx
    pop rbp
    cld
    ret

# enter_user(context, user_half, kernel_half): runs ring-3 code until it traps. Interrupts are off before and after. The
# halves are what to load into CR3 for ring 3, and when it traps; or 0.
.global enter_user
enter_user:
    push rbp
    push rbx
    push r12
    push r13
    push r14
    push r15
    mov gs:[8], rdi
    mov gs:[16], rsp
    mov gs:[32], rdx
    mov rsp, gs:[48]                    # mapped in both halves
    push 0x1b                           # user data
    push qword ptr [rdi + 136]
    push qword ptr [rdi + 128]
    push 0x23                           # user code
    push qword ptr [rdi + 120]
    push qword ptr [rdi + 48]           # rdi
    push qword ptr [rdi]                # rax
    mov rax, rsi
    mov rcx, [rdi + 8]
    mov rdx, [rdi + 16]
    mov rbx, [rdi + 24]
    mov rbp, [rdi + 32]
    mov rsi, [rdi + 40]
    mov r8, [rdi + 56]
    mov r9, [rdi + 64]
    mov r10, [rdi + 72]
    mov r11, [rdi + 80]
    mov r12, [rdi + 88]
    mov r13, [rdi + 96]
    mov r14, [rdi + 104]
    mov r15, [rdi + 112]
    test rax, rax
    jz 1f
    mov cr3, rax
1:  pop rax
    pop rdi
    iretq
