#include "textflag.h"

// The driver. Its first word jumps over the second, which is how many seconds a start may take; the image builder writes
// that one. Nothing in here has an address of its own, and nothing is written but the stack. R18, R28 and R29 are not used:
// the first is the firmware's, the others are Go's where a test calls this.
//
// By the firmware's convention the image's handle is in R0 and the system table in R1. A test gives no handle.
//
// The frame: 0 R30, 8 to 64 R19 to R26, 72 a count, 80 a list, 88 a protocol, 96 a value, 104 the handle.
TEXT ·driver(SB), NOSPLIT|NOFRAME, $0-0
	B	start

seconds:
	WORD	$300

start:
	SUB	$112, RSP
	MOVD	R30, 0(RSP)
	STP	(R19, R20), 8(RSP)
	STP	(R21, R22), 24(RSP)
	STP	(R23, R24), 40(RSP)
	STP	(R25, R26), 56(RSP)
	MOVD	R0, 104(RSP)
	MOVD	R1, R19
	MOVD	96(R19), R20 // boot services
	MOVD	$0, R24

	// First the watchdog of virtual machines. LocateHandleBuffer(ByProtocol, PCI I/O, nil, &count, &list)
	MOVD	$2, R0
	ADR	pci, R1
	MOVD	$0, R2
	ADD	$72, RSP, R3
	ADD	$80, RSP, R4
	MOVD	312(R20), R8
	CALL	(R8)
	CBNZ	R0, acpi
	MOVD	72(RSP), R22
	MOVD	80(RSP), R21

device:
	CBZ	R22, devices
	SUB	$1, R22

	// HandleProtocol(handle, PCI I/O, &protocol)
	MOVD	(R21)(R22<<3), R0
	ADR	pci, R1
	ADD	$88, RSP, R2
	MOVD	152(R20), R8
	CALL	(R8)
	CBNZ	R0, device
	MOVD	88(RSP), R23

	// Pci.Read(protocol, 32 bits, 0, 1, &value): who made it, and what it is
	MOVD	R23, R0
	MOVD	$2, R1
	MOVD	$0, R2
	MOVD	$1, R3
	ADD	$96, RSP, R4
	MOVD	48(R23), R8
	CALL	(R8)
	CBNZ	R0, device
	MOVWU	96(RSP), R0
	MOVD	$0x25ab8086, R1 // Intel, 6300ESB
	CMPW	R1, R0
	BNE	device

	// Attributes(protocol, enable, memory, nil)
	MOVD	R23, R0
	MOVD	$2, R1
	MOVD	$0x200, R2
	MOVD	$0, R3
	MOVD	120(R23), R8
	CALL	(R8)
	CBNZ	R0, device

	// It counts milliseconds of 1/1024 second, twice.
	ADR	seconds, R0
	MOVWU	(R0), R25
	LSL	$9, R25
	MOVD	$0xfffff, R0
	CMP	R0, R25
	CSEL	LO, R25, R0, R25
	ADR	esb, R24

write:
	MOVWU.P	4(R24), R26
	CBZ	R26, devices // and return: the count is not looked at
	AND	$0xffff, R26, R0
	MOVD	$0xffff, R1
	CMP	R1, R0
	CSEL	EQ, R25, R0, R0
	MOVD	R0, 96(RSP)
	UBFX	$24, R26, $4, R1
	UBFX	$16, R26, $8, R2
	TBNZ	$28, R26, memory

	// Pci.Write(protocol, width, register, 1, &value)
	MOVD	R23, R0
	MOVD	$1, R3
	ADD	$96, RSP, R4
	MOVD	56(R23), R8
	CALL	(R8)
	CBZ	R0, write
	B	device

memory:
	// Mem.Write(protocol, width, first window, register, 1, &value)
	MOVD	R23, R0
	MOVD	R2, R3
	MOVD	$0, R2
	MOVD	$1, R4
	ADD	$96, RSP, R5
	MOVD	24(R23), R8
	CALL	(R8)
	CBZ	R0, write
	B	device

devices:
	// FreePool(list). R24 is behind the last row where a watchdog was armed.
	MOVD	80(RSP), R0
	MOVD	72(R20), R8
	CALL	(R8)
	ADR	behind, R0
	CMP	R0, R24
	BEQ	done

acpi:
	// Then that of servers. A kernel that is given a device tree goes by that, and may not know what these tables tell.
	MOVD	104(R19), R22
	MOVD	112(R19), R21
	MOVD	$0, R23

config:
	CBZ	R22, root
	SUB	$1, R22
	LDP	(R21), (R0, R1)
	MOVD	16(R21), R2
	ADD	$24, R21
	MOVD	$0x41a5f19cb1b621d5, R3 // b1b621d5-f19c-41a5-830b-d9152c69aae0: a device tree
	MOVD	$0xe0aa692c15d90b83, R4
	CMP	R3, R0
	BNE	notree
	CMP	R4, R1
	BEQ	done

notree:
	MOVD	$0x11d3e4f18868e871, R3 // 8868e871-e4f1-11d3-bc22-0080c73c8881: ACPI 2.0
	MOVD	$0x81883cc7800022bc, R4
	CMP	R3, R0
	BNE	config
	CMP	R4, R1
	BNE	config
	MOVD	R2, R23
	B	config

root:
	CBZ	R23, done
	MOVD	24(R23), R23
	CBZ	R23, done
	MOVWU	4(R23), R22
	ADD	R23, R22 // where the list of tables ends
	ADD	$36, R23

table:
	ADD	$8, R23, R0
	CMP	R22, R0
	BHI	done
	MOVWU	(R23), R21
	MOVWU	4(R23), R1
	ORR	R1<<32, R21
	MOVD	R0, R23
	CBZ	R21, table
	MOVWU	(R21), R0
	MOVD	$0x54445447, R1 // GTDT
	CMPW	R1, R0
	BNE	table
	MOVBU	8(R21), R0
	CMP	$2, R0 // older ones list no timers of the platform
	BLO	table
	MOVWU	4(R21), R24
	CMP	$96, R24
	BLO	table
	ADD	R21, R24 // where the table ends
	MOVWU	88(R21), R25
	MOVWU	92(R21), R0
	ADD	R0, R21

timer:
	CBZ	R25, table
	SUB	$1, R25
	ADD	$4, R21, R0
	CMP	R24, R0
	BHI	table
	MOVBU	1(R21), R0
	MOVBU	2(R21), R1
	ORR	R1<<8, R0
	CMP	$4, R0
	BLO	table
	ADD	R21, R0, R26 // the next one
	CMP	R24, R26
	BHI	table
	MOVBU	(R21), R1
	CMP	$1, R1
	BNE	next
	CMP	$28, R0
	BLO	next
	MOVWU	24(R21), R1
	TBNZ	$2, R1, next // the secure world's
	MOVWU	4(R21), R19
	MOVWU	8(R21), R0
	ORR	R0<<32, R19 // the frame that refreshes
	MOVWU	12(R21), R20
	MOVWU	16(R21), R0
	ORR	R0<<32, R20 // the frame that controls

	// Firmware that has not mapped the frames would be stopped by touching them: the processor is asked before.
	MOVD	104(RSP), R0
	CBZ	R0, mapped
	MRS	CurrentEL, R0
	TBNZ	$3, R0, hyper
	WORD	$0xd5087833 // AT S1E1W, R19
	ISB	$15
	MRS	PAR_EL1, R0
	TBNZ	$0, R0, next
	WORD	$0xd5087834 // AT S1E1W, R20
	B	asked

hyper:
	WORD	$0xd50c7833 // AT S1E2W, R19
	ISB	$15
	MRS	PAR_EL1, R0
	TBNZ	$0, R0, next
	WORD	$0xd50c7834 // AT S1E2W, R20

asked:
	ISB	$15
	MRS	PAR_EL1, R0
	TBNZ	$0, R0, next

mapped:
	// It lets the same time pass twice before it resets. One that cannot count so far is armed for as long as it can,
	// and not at all where that is less than two minutes, in which a kernel may not have come to its driver.
	ADR	seconds, R1
	MOVWU	(R1), R1
	MRS	CNTFRQ_EL0, R0
	MUL	R0, R1, R2
	LSR	$1, R2
	MOVWU	0xfcc(R20), R1
	UBFX	$16, R1, $4, R1
	CBNZ	R1, wide // counts 48 bits
	MOVD	$0xffffffff, R3
	CMP	R3, R2
	BLS	wide
	MOVD	$60, R4
	MUL	R0, R4
	CMP	R4, R3
	BLO	next
	MOVD	R3, R2

wide:
	MOVW	R2, 8(R20)
	CBZ	R1, enable
	LSR	$32, R2
	MOVW	R2, 12(R20)

enable:
	MOVD	$1, R0
	MOVW	R0, (R20)
	MOVW	R0, (R19)
	DSB	$15
	B	done

next:
	MOVD	R26, R21
	B	timer

done:
	// Aborted is what the loader takes as a word that all is done, and it unloads this.
	MOVD	0(RSP), R30
	LDP	8(RSP), (R19, R20)
	LDP	24(RSP), (R21, R22)
	LDP	40(RSP), (R23, R24)
	LDP	56(RSP), (R25, R26)
	ADD	$112, RSP
	MOVD	$0x8000000000000015, R0
	RET

	PCALIGN	$8

pci: // 4cf5b200-68b8-4ca5-9eec-b23e3f50029a: EFI_PCI_IO_PROTOCOL
	WORD	$0x4cf5b200
	WORD	$0x4ca568b8
	WORD	$0x3eb2ec9e
	WORD	$0x9a02503f

esb: // what is written, from the top: 1 for memory and 0 for the device's own space, width, register, value; ffff is the time
	WORD	$0x01600003 // no interrupt after the first half, milliseconds, a reset after the second
	WORD	$0x110c0080 // two words unlock the next register
	WORD	$0x110c0086
	WORD	$0x1200ffff
	WORD	$0x110c0080
	WORD	$0x110c0086
	WORD	$0x1204ffff
	WORD	$0x110c0080
	WORD	$0x110c0086
	WORD	$0x110c0100 // from the beginning
	WORD	$0x00680003 // count, and nothing but a reset stops it
	WORD	$0

behind:
	RET

// func where() uintptr
TEXT ·where(SB), NOSPLIT, $0-8
	MOVD	$·driver(SB), R0
	MOVD	R0, ret+0(FP)
	RET

// func call(at, first, second uintptr) uintptr
TEXT ·call(SB), 0, $512-32
	MOVD	at+0(FP), R8
	MOVD	first+8(FP), R0
	MOVD	second+16(FP), R1
	CALL	(R8)
	MOVD	R0, ret+24(FP)
	RET
