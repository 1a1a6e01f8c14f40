# Hearth. `make` alone lists what there is; README.md says what to do first.

GO      ?= go
ARGS    ?=
PKG     ?= ./...
FUZZ    ?= 10s
BIN     := bin
QEMU32  ?= qemu-arm-static
QEMU64  ?= qemu-aarch64-static

# Without cgo everywhere: one static file that runs on any Linux, and a fresh
# machine needs no C compiler.
export CGO_ENABLED := 0

STRIP   := -trimpath -ldflags '-s -w'
ONDISK  := ./engine/store/... ./engine/stream/... ./engine/snapshot/... ./engine/room/...

.DEFAULT_GOAL := help

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: ## start a hub on 127.0.0.1:8008, its data in ./hearth-data (ARGS='--log-level debug')
	$(GO) build -o $(BIN)/hearth ./cmd/hearth
	$(BIN)/hearth serve $(ARGS)

build: ## build bin/hearth for this machine
	$(GO) build $(STRIP) -o $(BIN)/hearth ./cmd/hearth

test: ## all unit tests, those of store and rooms once more in 32 bits, e2e, e2e-js and e2e-web
	$(GO) test $(PKG)
	$(GO) test -C cmd/hearth-image ./...
	@if [ "$$($(GO) env GOHOSTARCH)" = amd64 ]; then $(MAKE) --no-print-directory test-386; fi
	@$(MAKE) --no-print-directory e2e e2e-js e2e-web

e2e: ## drive a hub process with an independent client library, and with pub and sub
	$(GO) build -o $(BIN)/hearth ./cmd/hearth
	HEARTH=$(CURDIR)/$(BIN)/hearth $(GO) test -C cmd/internal/e2e -tags goolm -count=1 -skip '^Test(JS|Web)' ./...

# -v, so that a machine without Node.js or without a registry says what it did not test.
e2e-js: ## drive a hub process with matrix-js-sdk: encryption, verification, key backup; needs Node.js and npm
	$(GO) build -o $(BIN)/hearth ./cmd/hearth
	HEARTH=$(CURDIR)/$(BIN)/hearth $(GO) test -C cmd/internal/e2e -count=1 -v -run '^TestJS' ./...

e2e-web: ## drive a hub process with a web client in a headless browser; needs Node.js, npm and chromium
	$(GO) build -o $(BIN)/hearth ./cmd/hearth
	HEARTH=$(CURDIR)/$(BIN)/hearth $(GO) test -C cmd/internal/e2e -count=1 -v -run '^TestWeb' ./...

test-386: ## the store and room tests as a 32-bit program, on an amd64 machine
	GOARCH=386 $(GO) test $(ONDISK)

test-arm: ## the store and room tests as 32-bit and 64-bit ARM programs under qemu-user, and the UEFI driver's: minutes
	GODEBUG=asyncpreemptoff=1 GOMAXPROCS=1 GOARCH=arm GOARM=7 $(GO) test -timeout 0 -exec $(QEMU32) $(ONDISK)
	GODEBUG=asyncpreemptoff=1 GOMAXPROCS=1 GOARCH=arm64 $(GO) test -timeout 0 -exec $(QEMU64) $(ONDISK) ./firmware/efi

sim: ## power cuts of one hub and stories of several, SIM times longer than in make test (SIM=50, HEARTH_SEED=n)
	HEARTH_SIM=$(or $(SIM),50) $(GO) test -count=1 -timeout 0 -v -run 'TestPowerCut|TestStory' ./engine/sim ./httpd/simnet

race: ## all unit tests under the race detector; needs a C compiler
	CGO_ENABLED=1 $(GO) test -race $(PKG)

check: fmt vet staticcheck test check-arm ## all that a review runs

fmt: ## no file may need gofmt
	@bad=$$(gofmt -l cmd engine firmware httpd scripts); if [ -n "$$bad" ]; then echo "these files need gofmt:"; echo "$$bad"; exit 1; fi

vet: ## go vet
	$(GO) vet ./...

$(BIN)/staticcheck: scripts/tools/go.mod scripts/tools/go.sum
	$(GO) build -C scripts/tools -o ../../$@ honnef.co/go/tools/cmd/staticcheck

staticcheck: $(BIN)/staticcheck ## staticcheck
	$(BIN)/staticcheck ./...

# 32-bit ARM faults on a 64-bit atomic that is not aligned. Pebble does not
# support 32 bits, so this looks through all that the program is linked from.
check-arm: $(BIN)/staticcheck ## alignment of 64-bit atomics on 32-bit ARM, in all dependencies
	GOOS=linux GOARCH=arm $(BIN)/staticcheck -tests=false -checks SA1027 \
		$$(GOOS=linux GOARCH=arm $(GO) list -deps -f '{{if not .Standard}}{{.ImportPath}}{{end}}' ./cmd/hearth)

packages: ## write the reviewed list of linked packages anew
	$(GO) test ./cmd/internal/house -run Linked -rewrite

# Before there is a release its time is what makes a package newer than another.
STAMP    = $(shell git log -1 --format=%ct)
VERSION ?= 0.1.0-git$(shell TZ=UTC git log -1 --date=format-local:%Y%m%d%H%M%S --format=%cd)
DEBARCH ?= $(shell dpkg --print-architecture 2>/dev/null)
DEBROOT ?= $(CURDIR)/$(BIN)/debian-$(DEBARCH)

packages-os: cross ## deb, rpm, OpenWrt ipk and apk, and tar.gz into bin/packages (ONLY=deb,arm64 builds some)
	$(GO) run ./cmd/hearth example-config > $(BIN)/example.toml
	$(GO) build -C cmd/hearth-image -o ../../$(BIN)/hearth-image .
	$(BIN)/hearth-image packages --from $(BIN) --to $(BIN)/packages --settings $(BIN)/example.toml --version $(VERSION) \
		--time $(STAMP) --only '$(ONLY)' --extra LICENSE,README.md

# The box's own programs, and the hub as make cross built it.
box-programs: cross-arm64
	mkdir -p $(BIN)/box
	GOOS=linux GOARCH=arm64 $(GO) build $(STRIP) -o $(BIN)/box/init ./firmware/init
	GOOS=linux GOARCH=arm64 $(GO) build -trimpath -o $(BIN)/box/efi ./firmware/efi # not stripped: the builder finds the driver by its name
	GOOS=linux GOARCH=arm64 $(GO) build -C cmd/hearth-image $(STRIP) -o ../../$(BIN)/box/dhcp github.com/gokrazy/gokrazy/cmd/dhcp
	cp $(BIN)/hearth-linux-arm64 $(BIN)/box/hearth
	$(GO) build -C cmd/hearth-image -o ../../$(BIN)/hearth-image .
	-$(BIN)/hearth-image fetch e2fsck --to $(BIN)/box
	-$(if $(filter rpi,$(BOARD)),$(BIN)/hearth-image fetch wifi --to $(BIN)/box)

BOARD ?= virt
# KEY is the secret key of updates, which hearth-image key makes; an image without one takes no updates.
KEY   ?=
FROM   = --board $(BOARD) --programs $(BIN)/box --version $(VERSION) --time $(STAMP) --to $(BIN)/images $(if $(KEY),--update-key $(KEY).pub)
IMAGE  = $(BIN)/hearth-image image $(FROM)

image: box-programs ## the disk image of a board into bin/images (BOARD=rpi, KEY=release.key, SET='--set server_name=hub.example')
	$(IMAGE) $(SET)

archive: box-programs ## what updates boxes of a board, signed, into bin/images (BOARD=rpi, KEY=release.key)
	$(BIN)/hearth-image archive $(FROM) --key $(KEY)

image-test: BOARD = virt
image-test: KEY = $(BIN)/images/test.key
image-test: CUTS ?= 20
image-test: box-programs ## boot images in QEMU, claim them, update one, cut their power (CUTS=3, UPDATES=no); needs qemu-system-arm, qemu-efi-aarch64
	mkdir -p $(BIN)/images
	rm -f $(BIN)/images/hearth-virt-* $(KEY) $(KEY).pub
	$(BIN)/hearth-image key --to $(KEY) > /dev/null
	$(IMAGE) --raw
	HEARTH_IMAGE=$$(ls $(CURDIR)/$(BIN)/images/hearth-virt-*.img) HEARTH_UEFI=/usr/share/qemu-efi-aarch64/QEMU_EFI.fd HEARTH_CUTS=$(CUTS) HEARTH_CHECKER=$$(ls $(BIN)/box/e2fsck 2>/dev/null) \
		HEARTH_KEY=$(if $(filter no,$(UPDATES)),,$(CURDIR)/$(KEY)) HEARTH_PROGRAMS=$(CURDIR)/$(BIN)/box \
		$(GO) test -C cmd/hearth-image -count=1 -v -timeout 30m -parallel 3 -run TestBox ./image

image-test-pi: BOARD = rpi
image-test-pi: box-programs ## boot the image of Raspberry Pis in QEMU's raspi3b, claim it, cut its power; needs qemu-system-arm
	rm -f $(BIN)/images/hearth-rpi-*
	$(IMAGE) --raw
	HEARTH_PI=$$(ls $(CURDIR)/$(BIN)/images/hearth-rpi-*.img) $(GO) test -C cmd/hearth-image -count=1 -v -timeout 15m -run TestPi ./image

# The recording takes QEMU and half a minute of load; going through it mounts each disk, which needs root.
RECORD ?= $(CURDIR)/$(BIN)/powercut
image-powercut: BOARD = virt
image-powercut: box-programs ## record all that a loaded box writes, cut its power at 1000 places of that (POINTS=1000); needs root and qemu-system-arm
	rm -rf $(BIN)/images/hearth-virt-* $(RECORD) && mkdir -p $(RECORD)
	$(IMAGE) --raw
	HEARTH_IMAGE=$$(ls $(CURDIR)/$(BIN)/images/hearth-virt-*.img) HEARTH_UEFI=/usr/share/qemu-efi-aarch64/QEMU_EFI.fd HEARTH_RECORD=$(RECORD) \
		$(GO) test -C cmd/hearth-image -count=1 -v -timeout 30m -run TestRecord ./image
	HEARTH_RECORD=$(RECORD) HEARTH_POINTS=$(or $(POINTS),1000) $(GO) test -count=1 -v -timeout 30m -run TestReplay ./cmd/internal/powercut

# Another architecture: DEBARCH=arm64, where the kernel knows qemu-user for it.
packages-test: cross-$(patsubst armhf,armv6,$(DEBARCH)) ## install, start, renew and remove deb, rpm, ipk and apk in roots; needs root, debootstrap, rpm, busybox
	$(GO) run ./cmd/hearth example-config > $(BIN)/example.toml
	[ -e $(DEBROOT)/etc/passwd ] || debootstrap --arch=$(DEBARCH) --variant=minbase --include=systemd bookworm $(DEBROOT)
	HEARTH_DEBROOT=$(DEBROOT) HEARTH_DEBARCH=$(DEBARCH) HEARTH_PROGRAMS=$(CURDIR)/$(BIN) HEARTH_SETTINGS=$(CURDIR)/$(BIN)/example.toml \
		$(GO) test -C cmd/hearth-image -count=1 -v -run 'TestDebian|TestRPM|TestOpenWrtRoot' ./pack

cross: cross-amd64 cross-arm64 cross-armv7 cross-armv6 cross-riscv64 ## static programs for all machines into bin/
	@ls -l $(BIN)/hearth-linux-*

cross-amd64:
	GOOS=linux GOARCH=amd64 $(GO) build $(STRIP) -o $(BIN)/hearth-linux-amd64 ./cmd/hearth
cross-arm64:
	GOOS=linux GOARCH=arm64 $(GO) build $(STRIP) -o $(BIN)/hearth-linux-arm64 ./cmd/hearth
cross-armv7:
	GOOS=linux GOARCH=arm GOARM=7 $(GO) build $(STRIP) -o $(BIN)/hearth-linux-armv7 ./cmd/hearth
cross-armv6:
	GOOS=linux GOARCH=arm GOARM=6 $(GO) build $(STRIP) -o $(BIN)/hearth-linux-armv6 ./cmd/hearth
cross-riscv64:
	GOOS=linux GOARCH=riscv64 $(GO) build $(STRIP) -o $(BIN)/hearth-linux-riscv64 ./cmd/hearth

bench: ## all benchmarks, briefly
	$(GO) test -run '^$$' -bench . -benchtime 200ms -benchmem $(PKG)

fuzz: ## every fuzz test for FUZZ=10s each
	@for dir in $$($(GO) list -f '{{.Dir}}' ./...); do \
		for f in $$(grep -hos '^func Fuzz[A-Za-z0-9_]*' $$dir/*_test.go | sed 's/func //'); do \
			echo "$$dir $$f"; $(GO) test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZ) $$dir || exit 1; \
		done; \
	done

clean: ## remove what was built; data folders stay
	rm -rf $(BIN)

.PHONY: help run build test e2e e2e-js test-386 test-arm race check fmt vet staticcheck check-arm packages \
	cross cross-amd64 cross-arm64 cross-armv7 cross-armv6 cross-riscv64 packages-os packages-test box-programs image archive image-test image-test-pi image-powercut bench fuzz clean
