#!/bin/sh
# Debian says "remove", RPM says 0. On an upgrade the old hub runs until the new one takes over.
set -e
case "$1" in
remove | 0)
	if [ -d /run/systemd/system ]; then
		systemctl disable --now hearth.service || true
	fi
	;;
esac
