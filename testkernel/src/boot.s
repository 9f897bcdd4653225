# From the boot loader's 32-bit mode, or a starting CPU's 16-bit mode, to Rust in long mode.

.section .multiboot, "a"
.align 4
multiboot_header:
    .long 0x1badb002
    .long 0x00010003                    # page-align modules, memory map, address fields valid
    .long 0 - 0x1badb002 - 0x00010003
    .long multiboot_header
    .long image_start
    .long image_end
    .long bss_end
    .long start32

.section .boot, "ax"
.code32
.global start32
start32:
    cli
    cld
    mov esp, offset boot_stack_end
    mov esi, ebx                        # the boot loader's information
    # Four page directories map the first 4 GiB to themselves, in 2 MiB pages, global, supervisor only.
    mov edi, offset boot_pd
    mov eax, 0x183                      # present, writable, large, global
    mov ecx, 2048
1:  mov edx, eax
    cmp eax, 0xc0000000                 # above: devices, uncached
    jb 2f
    or edx, 0x18
2:  mov [edi], edx
    mov dword ptr [edi + 4], 0
    add edi, 8
    add eax, 0x200000
    loop 1b
    mov edi, offset boot_pdpt
    mov eax, offset boot_pd + 3
    mov ecx, 4
3:  mov [edi], eax
    add edi, 8
    add eax, 4096
    loop 3b
    mov dword ptr [boot_pml4], offset boot_pdpt + 3
    call enter_long_mode
    mov eax, offset start64
    push 8
    push eax
    retf

# Enables long mode with the boot page tables; clobbers eax, ecx, edx.
enter_long_mode:
    mov eax, 0x6a0                      # PAE, PGE, OSFXSR, OSXMMEXCPT
    mov cr4, eax
    mov eax, offset boot_pml4
    mov cr3, eax
    mov ecx, 0xc0000080                 # EFER.LME
    rdmsr
    or eax, 0x100
    wrmsr
    mov eax, 0x80010033                 # PG, WP, NE, ET, MP, PE
    mov cr0, eax
    lgdt [boot_gdt_pointer]
    ret

ap32:
    mov ax, 0x10
    mov ds, ax
    mov ss, ax
    mov eax, 1                          # the stack goes by the APIC's id, not by who comes first
    cpuid
    shr ebx, 24
    mov edi, ebx
    inc ebx
    shl ebx, 16
    lea esp, [cpu_stacks + ebx]
    call enter_long_mode
    mov eax, offset ap64
    push 8
    push eax
    retf

.code64
start64:
    mov ax, 0x10
    mov ds, ax
    mov es, ax
    mov ss, ax
    xor eax, eax
    mov fs, ax
    mov gs, ax
    mov edi, esi
    lea rsp, [cpu_stacks + 0x10000]
    xor ebp, ebp
    call boot_cpu_main
    ud2

ap64:
    mov ax, 0x10
    mov es, ax
    mov edi, edi
    xor eax, eax
    mov fs, ax
    mov gs, ax
    xor ebp, ebp
    call other_cpu_main
    ud2

# Copied to 0x8000, where a started CPU begins in real mode.
.global trampoline, trampoline_end
trampoline:
.code16
    cli
    cld
    xor ax, ax
    mov ds, ax
    .byte 0x66, 0x0f, 0x01, 0x16        # lgdt with a 32-bit base
    .word 0x8000 + trampoline_gdt_pointer - trampoline
    mov eax, 0x11
    mov cr0, eax
    .byte 0x66, 0xea                    # far jump with a 32-bit offset
    .long ap32
    .word 0x18
trampoline_gdt_pointer:
    .word boot_gdt_end - boot_gdt - 1
    .long boot_gdt
trampoline_end:
.code64

.align 8
boot_gdt:
    .quad 0
    .quad 0x00af9b000000ffff            # 0x08: 64-bit code
    .quad 0x00cf93000000ffff            # 0x10: data
    .quad 0x00cf9b000000ffff            # 0x18: 32-bit code
boot_gdt_end:
boot_gdt_pointer:
    .word boot_gdt_end - boot_gdt - 1
    .quad boot_gdt

.section .bss
.align 4096
.global boot_pml4, boot_pd
boot_pml4: .skip 4096
boot_pdpt: .skip 4096
boot_pd: .skip 4 * 4096
boot_stack: .skip 4096
boot_stack_end:
.align 4096
.global cpu_stacks
cpu_stacks: .skip 16 * 0x10000
