#!/bin/sh
# Debian says "configure" and the version that was there, RPM says 2 where one was.
set -e
upgrade=no
case "$1" in
configure) if [ -n "$2" ]; then upgrade=yes; fi ;;
1) ;;
2) upgrade=yes ;;
*) exit 0 ;;
esac
if [ -d /run/systemd/system ]; then
	systemctl daemon-reload || true
	if [ "$upgrade" = yes ]; then
		systemctl try-restart hearth.service || true
	fi
fi
if [ "$upgrade" = no ]; then
	# It does not start by itself: the name that it starts with is its name for ever.
	cat <<'TEXT'
Hearth is installed. Set server_name in /etc/hearth/hearth.toml, which can never
change later, and client_listen. Then:

  systemctl enable --now hearth
  journalctl -u hearth        shows the claim code that makes the first admin
TEXT
fi
