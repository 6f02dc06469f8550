#!/bin/sh
# SPDX-License-Identifier: MIT
# Puts a build where it is installed: packaging/install.sh BUILD VERSION, with DESTDIR, PREFIX and UNITDIR from the environment. `make install` and
# packaging/deb/build.sh call it. The programs go into a directory of their version, and one rename of the link PREFIX/bin/sluice makes it the
# installed one: whoever starts or upgrades meanwhile finds all of one build or all of the other. The version that was installed before stays, the
# ones before that go; what runs holds its own programs open. Every file is written beside its place and renamed, never written over.
set -eu
build=$1
version=$2
prefix=${PREFIX:-/usr}
to=${DESTDIR:-}$prefix
units=${DESTDIR:-}${UNITDIR:-$prefix/lib/systemd/system}
cd "$(dirname "$0")/.."

put() {
	mkdir -p "${3%/*}"
	install -m "$1" "$2" "$3.new"
	mv -f "$3.new" "$3"
}

versions=$to/libexec/sluice
put 755 "$build/sluice" "$versions/$version/sluice"
for p in worker loader controller nethelper; do
	put 755 "$build/libexec/sluice-$p" "$versions/$version/sluice-$p"
done

for m in packaging/man/*.[1-8]; do
	put 644 "$m" "$to/share/man/man${m##*.}/${m##*/}"
done
put 644 packaging/completion/sluice.bash "$to/share/bash-completion/completions/sluice"
put 644 packaging/completion/sluice.fish "$to/share/fish/vendor_completions.d/sluice.fish"
put 644 packaging/completion/_sluice "$to/share/zsh/vendor-completions/_sluice"
put 644 packaging/sysusers/sluice.conf "$to/lib/sysusers.d/sluice.conf"
put 644 packaging/tmpfiles/sluice.conf "$to/lib/tmpfiles.d/sluice.conf"
put 644 packaging/systemd/sluice.socket "$units/sluice.socket"
mkdir -p "$units"
sed "s|@PREFIX@|$prefix|g" packaging/systemd/sluice.service > "$units/sluice.service.new"
chmod 644 "$units/sluice.service.new"
mv -f "$units/sluice.service.new" "$units/sluice.service"
for d in packaging/systemd/*.conf; do
	put 644 "$d" "$to/share/doc/sluice/examples/${d##*/}"
done
put 644 README.md "$to/share/doc/sluice/README.md"
put 644 LICENSE "$to/share/doc/sluice/LICENSE"

mkdir -p "$to/bin"
before=$(readlink "$to/bin/sluice" || :)
rm -f "$to/bin/sluice.new"
ln -s "../libexec/sluice/$version/sluice" "$to/bin/sluice.new"
mv -fT "$to/bin/sluice.new" "$to/bin/sluice"
before=${before%/sluice}
for d in "$versions"/*/; do
	d=${d%/}
	case ${d##*/} in
	"$version" | "${before##*/}") ;;
	*) rm -rf "$d" ;;
	esac
done
