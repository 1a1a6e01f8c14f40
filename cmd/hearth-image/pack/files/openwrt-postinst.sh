#!/bin/sh
# Makes the user. It runs when the package is put into an image too, with IPKG_INSTROOT set.
. "${IPKG_INSTROOT}/lib/functions.sh"
group_exists hearth || group_add_next hearth >/dev/null
user_exists hearth || user_add hearth "" "$(grep '^hearth:' "${IPKG_INSTROOT}/etc/group" | cut -d: -f3)" hearth /srv/hearth /bin/false
if [ -z "${IPKG_INSTROOT}" ]; then
	# Releases before 21.02 call every service running, so what was never started is looked for first.
	if [ ! -d /srv/hearth/store ]; then
		echo "Set server_name in /etc/hearth/hearth.toml, which can never change later. Then:"
		echo "/etc/init.d/hearth enable; /etc/init.d/hearth start; logread -e hearth"
	elif /etc/init.d/hearth running; then
		/etc/init.d/hearth restart
	fi
fi
exit 0
