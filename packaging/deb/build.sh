#!/bin/sh
# SPDX-License-Identifier: MIT
# The Debian package, by dpkg's own tools: packaging/deb/build.sh BUILD VERSION makes BUILD/sluice_VERSION_ARCH.deb. `make deb` calls it. The same
# programs and SOURCE_DATE_EPOCH give the same bytes, whoever builds and where. A build between releases sorts before the release, by time.
set -eu
build=$(realpath "$1")
version=$2
export SOURCE_DATE_EPOCH="${SOURCE_DATE_EPOCH:-0}"
export LC_ALL=C TZ=UTC
umask 022
here=$(realpath "$(dirname "$0")")
for tool in dpkg-shlibdeps dpkg-gencontrol strip; do
	command -v $tool >/dev/null || {
		echo "deb: $tool is missing: apt-get install dpkg-dev binutils" >&2
		exit 1
	}
done
# 0.1-gabcdef-dirty -> 0.1~20260102030405.gabcdef.dirty
deb_version=$(echo "$version" | sed "s/-/~$(date -d "@$SOURCE_DATE_EPOCH" +%Y%m%d%H%M%S)./; s/-/./g")
work=$build/deb
root=$work/root
rm -rf "$work"
mkdir -p "$work/debian" "$root"

DESTDIR=$root PREFIX=/usr UNITDIR=/lib/systemd/system sh "$here/../install.sh" "$build" "$version"
programs=$root/usr/libexec/sluice/$version
strip --strip-all --remove-section=.comment --remove-section=.note "$programs"/*

doc=$root/usr/share/doc/sluice
rm "$doc/LICENSE"
install -m 644 "$here/copyright" "$doc/copyright"
cat > "$work/debian/changelog" <<END
sluice ($deb_version) unstable; urgency=medium

  * Build $version.

 -- $(sed -n 's/^Maintainer: //p' "$here/control")  $(date -R -d "@$SOURCE_DATE_EPOCH")
END
[ ! -f "$here/changelog" ] || { echo; cat "$here/changelog"; } >> "$work/debian/changelog"
install -m 644 "$work/debian/changelog" "$doc/changelog"
gzip -9n "$doc/changelog" "$root"/usr/share/man/man*/*
install -D -m 644 "$here/config.yaml" "$root/etc/sluice/config.yaml"

mkdir "$root/DEBIAN"
cp "$here/control" "$work/debian/control"
cd "$work"
dpkg-shlibdeps -Osubstvars "$programs"/*
dpkg-gencontrol -psluice -ldebian/changelog -Tsubstvars -P"$root" -O"$root/DEBIAN/control" 2>/dev/null
echo /etc/sluice/config.yaml > "$root/DEBIAN/conffiles"
for s in postinst prerm postrm; do
	install -m 755 "$here/$s" "$root/DEBIAN/$s"
done
cd "$root"
find usr lib -type f -print0 | sort -z | xargs -0 md5sum > DEBIAN/md5sums
find . -exec touch -hd "@$SOURCE_DATE_EPOCH" {} +
deb=$build/sluice_${deb_version}_$(dpkg --print-architecture).deb
rm -f "$build"/sluice_*.deb
dpkg-deb --root-owner-group -Zxz --build "$root" "$deb" >/dev/null
cd /
rm -rf "$work"
echo "$deb"
