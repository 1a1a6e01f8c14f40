#!/bin/sh
# /var/lib/hearth stays, whatever is removed: it holds keys that nothing brings back.
set -e
case "$1" in
remove | purge | 0)
	if [ -d /run/systemd/system ]; then
		systemctl daemon-reload || true
	fi
	if [ -d /var/lib/hearth ]; then
		echo "Hearth's data stays in /var/lib/hearth; rm -r /var/lib/hearth deletes it."
	fi
	;;
esac
