#!/bin/sh
# Makes the user. It runs when the package is put into an image too, with IPKG_INSTROOT set.
. "${IPKG_INSTROOT}/lib/functions.sh"
group_exists hearth || group_add_next hearth
user_exists hearth || user_add hearth "" "$(grep '^hearth:' "${IPKG_INSTROOT}/etc/group" | cut -d: -f3)" hearth /srv/hearth /bin/false
if [ -z "${IPKG_INSTROOT}" ]; then
	if /etc/init.d/hearth running; then
		/etc/init.d/hearth restart
	elif [ ! -d /srv/hearth/store ]; then
		echo "Set server_name in /etc/hearth/hearth.toml, which can never change later. Then:"
		echo "/etc/init.d/hearth enable; /etc/init.d/hearth start; logread -e hearth"
	fi
fi
exit 0
