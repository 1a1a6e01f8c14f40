#!/bin/sh
# /srv/hearth stays: it holds keys that nothing brings back. On an upgrade the new hub takes over by itself.
if [ -z "${IPKG_INSTROOT}" ] && [ "$1" != upgrade ] && [ "${PKG_UPGRADE:-0}" != 1 ]; then
	/etc/init.d/hearth stop
	/etc/init.d/hearth disable
fi
exit 0
