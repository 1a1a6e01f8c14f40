package main

import (
	"log"

	"hearth/firmware/boot"
)

// keepCheck keeps what the last check of the data partition said, for who wants to know what became of a file.
func keepCheck(said []byte) {
	if len(said) == 0 {
		return
	}
	log.Printf("the check of the data partition said:\n%s", said[max(0, len(said)-2000):])
	if err := boot.WriteFile(data+"/check.log", said, 0o600); err != nil {
		log.Printf("keeping it: %v", err)
	}
}
