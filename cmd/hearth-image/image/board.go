package image

import (
	"embed"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

//go:embed boards/*.json
var shelf embed.FS

// Board is what one kind of machine needs on its card. A new one is a new file in boards.
type Board struct {
	Name          string   `json:"name"`
	What          string   `json:"what"`
	Kernel        string   `json:"kernel"`         // Go module that holds it
	KernelFiles   []string `json:"kernel_files"`   // of that, what the boot partition gets
	Firmware      string   `json:"firmware"`       // Go module; empty: the machine has its own
	FirmwareFiles []string `json:"firmware_files"` // of that, what the boot partition gets
	HomeFiles     []string `json:"home_files"`     // of the firmware, what the partition HEARTH gets, which is never updated
	Loader        string   `json:"loader"`         // uefi or raspberry
	Drivers       []string `json:"drivers"`        // of the kernel's module, what the box loads for a radio, in order
	Config        string   `json:"config"`         // config.txt of a raspberry
	Cmdline       string   `json:"cmdline"`        // what the kernel is told besides where its root is
}

// Boards lists all that there are.
func Boards() ([]Board, error) {
	all, err := shelf.ReadDir("boards")
	if err != nil {
		return nil, err
	}
	var boards []Board
	for _, e := range all {
		text, err := shelf.ReadFile("boards/" + e.Name())
		if err != nil {
			return nil, err
		}
		d := json.NewDecoder(strings.NewReader(string(text)))
		d.DisallowUnknownFields()
		var b Board
		if err := d.Decode(&b); err != nil {
			return nil, fmt.Errorf("%s: %w", e.Name(), err)
		}
		boards = append(boards, b)
	}
	return boards, nil
}

// FindBoard gives the board of a name.
func FindBoard(name string) (Board, error) {
	all, err := Boards()
	if err != nil {
		return Board{}, err
	}
	var names []string
	for _, b := range all {
		if b.Name == name {
			return b, nil
		}
		names = append(names, b.Name)
	}
	slices.Sort(names)
	return Board{}, fmt.Errorf("there is no board %q; there are %s", name, strings.Join(names, ", "))
}
