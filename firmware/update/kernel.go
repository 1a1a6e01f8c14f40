package update

import (
	"encoding/binary"
	"math"

	"golang.org/x/sys/unix"
)

// prefix keeps what a part begins with, and lets the rest go by.
type prefix []byte

// imageHead is how long the header of a kernel for 64-bit ARM is, in bytes; Linux, arch/arm64/booting.
const imageHead = 64

func (p *prefix) Write(b []byte) (int, error) {
	*p = append(*p, b[:min(len(b), imageHead-len(*p))]...)
	return len(b), nil
}

// fits refuses a kernel that UEFI cannot load into a memory of so many bytes, where it lies twice: as the file, and as it
// is started, with what its header asks for besides. One that fits by this may still find no room that is in one piece;
// then the firmware does not start it, and the watchdog ends the trial.
func fits(head []byte, size, memory int64) error {
	need := uint64(size)
	if len(head) == imageHead && string(head[56:60]) == "ARM\x64" {
		need = max(need, binary.LittleEndian.Uint64(head[16:]))
	}
	if need > math.MaxInt64/2 || int64(need)+size > memory {
		return refused("its kernel takes %d bytes of memory and its file %d, and there are %d", need, size, memory)
	}
	return nil
}

// memory is how much the kernel that runs has for programs, in bytes.
func memory() int64 {
	var i unix.Sysinfo_t
	if err := unix.Sysinfo(&i); err != nil {
		return math.MaxInt64
	}
	return int64(min(uint64(i.Totalram)*uint64(i.Unit), math.MaxInt64))
}
