# What the package's scripts use of OpenWrt's own functions, for a test in an empty root.
next_id() {
	id=32768
	while cut -d: -f3 "$1" | grep -qx "$id"; do id=$((id + 1)); done
	echo "$id"
}
group_exists() { grep -qs "^$1:" "${IPKG_INSTROOT}/etc/group"; }
user_exists() { grep -qs "^$1:" "${IPKG_INSTROOT}/etc/passwd"; }
group_add_next() {
	id="$(next_id "${IPKG_INSTROOT}/etc/group")"
	echo "$1:x:$id:" >>"${IPKG_INSTROOT}/etc/group"
	echo "$id"
}
# name, uid, gid, description, home, shell
user_add() {
	echo "$1:x:${2:-$(next_id "${IPKG_INSTROOT}/etc/passwd")}:$3:$4:$5:$6" >>"${IPKG_INSTROOT}/etc/passwd"
}
