#!/bin/sh
#
# setup.sh GROUP... - finds what is missing on this machine and installs it.
#
# GROUP says for what: build, test, demo, trace, watch, grade, lint, sanitize,
# fuzz, valgrind. When nothing is missing this takes a few milliseconds and prints
# nothing.
#
# Tried on Debian 12. The names for the other systems are from their package
# lists and have not been tried by installing them; dnf and apk are asked for
# the pkg-config file that is needed ("pkgconfig(jansson)", "pc:jansson"), which
# every package that brings it also carries as a name.

set -u

has() {
    command -v "$1" >/dev/null 2>&1
}

has_library() {
    has pkg-config && pkg-config --exists "$@"
}

# A compiler without the C library's headers is possible, and of no use.
has_compiler() {
    has cc && { [ -e /usr/include/stdio.h ] ||
        echo '#include <stdio.h>' | cc -E - >/dev/null 2>&1; }
}

has_sanitizers() {
    echo 'int main(void) { return 0; }' |
        cc -fsanitize=address,undefined -x c -o /dev/null - 2>/dev/null
}

has_fuzzer() {
    echo 'int LLVMFuzzerTestOneInput(void) { return 0; }' |
        "${CLANG:-clang}" -fsanitize=fuzzer,address,undefined \
            -x c -o /dev/null - 2>/dev/null
}

manager=none
for name in apt-get dnf apk pacman brew; do
    if has "$name"; then
        manager=$name
        break
    fi
done

wanted=''   # packages without which nothing goes
optional='' # packages that one check needs, and is left out without
reasons=''
tried=$(dirname "$0")/../../build/setup/tried

# want APT DNF APK PACMAN BREW WHY: the packages that are missing here; "-" where
# the system has none, or has it anyway.
want() {
    case $manager in
        apt-get) packages=$1 ;;
        dnf) packages=$2 ;;
        apk) packages=$3 ;;
        pacman) packages=$4 ;;
        brew) packages=$5 ;;
        *) packages=$1 ;;
    esac
    name=$packages
    [ "$packages" != - ] || name="(no package known)"
    reasons="$reasons
$(printf '    %-20s %s' "$name" "$6")"
}

# need ARGUMENTS OF want: must be there.
need() {
    want "$@"
    wanted="$wanted $packages"
}

# should ARGUMENTS OF want: is tried once (`make clean` forgets that it was).
should() {
    [ ! -e "$tried-$1" ] || return
    want "$@"
    mkdir -p "${tried%/*}" && : >"$tried-$1"
    [ "$packages" = - ] || optional="$optional $packages"
}

look_for() {
    case $1 in
        build)
            has_compiler ||
                need 'gcc libc6-dev' gcc 'gcc musl-dev' gcc - \
                    'compiles (macOS: xcode-select --install)'
            has pkg-config ||
                need pkg-config pkgconf-pkg-config pkgconf pkgconf pkgconf \
                    'knows where libraries are installed'
            has_library jansson ||
                need libjansson-dev 'pkgconfig(jansson)' pc:jansson \
                    jansson jansson 'reads and writes JSON (from lesson 04 on)'
            has_library 'openssl >= 3.0' ||
                need libssl-dev 'pkgconfig(openssl)' pc:openssl \
                    openssl openssl@3 'speaks TLS (lesson 07)'
            ;;
        test)
            has_library 'criterion >= 2.4' ||
                need libcriterion-dev 'pkgconfig(criterion)' pc:criterion \
                    criterion criterion 'runs the tests (Criterion 2.4 or newer)'
            has patch ||
                need patch patch patch patch - \
                    'puts mistakes and wrong answers into copies'
            look_for demo
            has clitest ||
                should clitest - - clitest clitest \
                    "checks the READMEs' transcripts (aureliojargas/clitest)"
            ;;
        demo)
            has openssl ||
                need openssl openssl openssl openssl openssl@3 \
                    'makes the certificates of lesson 07'
            case "$wanted " in *' socat '*) return ;; esac
            has bash || need bash bash bash bash bash 'runs the scripts'
            has socat ||
                need socat socat socat socat socat \
                    'connects to anything; shows what goes over a wire'
            ;;
        trace)
            [ "$(uname)" != Linux ] || has strace ||
                need strace strace strace strace - 'shows system calls'
            ;;
        watch)
            has inotifywait || has fswatch ||
                need inotify-tools inotify-tools inotify-tools \
                    inotify-tools fswatch 'tells when a file is saved'
            ;;
        grade)
            has jq || need jq jq jq jq jq 'writes JSON'
            ;;
        lint)
            has clang || need clang clang clang clang llvm 'a second compiler'
            has clang-format ||
                need clang-format clang-tools-extra clang-extra-tools clang \
                    clang-format 'checks the layout of the C files'
            has shellcheck ||
                need shellcheck ShellCheck shellcheck shellcheck shellcheck \
                    'checks the scripts'
            has codespell ||
                should codespell codespell codespell codespell codespell \
                    'finds words that are misspelt often'
            ;;
        sanitize)
            has_sanitizers ||
                need 'gcc libc6-dev' 'libasan libubsan' - gcc - \
                    'finds memory errors while a program runs'
            ;;
        fuzz)
            has "${CLANG:-clang}" ||
                need clang clang clang clang llvm 'a compiler with a fuzzer'
            has_fuzzer ||
                should libclang-rt-dev 'compiler-rt libstdc++-devel' \
                    'compiler-rt libstdc++-dev' compiler-rt - \
                    "the compiler's fuzzer (macOS: CLANG=Homebrew's clang)"
            ;;
        valgrind)
            has valgrind ||
                need valgrind valgrind valgrind valgrind - \
                    'finds memory errors while a program runs'
            ;;
        *)
            echo "setup.sh: there is no group $1" >&2
            exit 2
            ;;
    esac
}

# Runs a command as root and keeps what it says for the case that it fails.
as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif [ -t 0 ]; then
        sudo "$@"
    else
        sudo -n "$@"
    fi >>"$log" 2>&1
}

install_with() {
    case $manager in
        apt-get)
            set -- env DEBIAN_FRONTEND=noninteractive apt-get \
                -o DPkg::Lock::Timeout=120 -y --no-install-recommends \
                install "$@"
            # A fresh machine has no lists yet; old lists name packages that are
            # no longer there.
            if ls /var/lib/apt/lists/*Packages* >/dev/null 2>&1; then
                as_root "$@" && return
            fi
            as_root apt-get update && as_root "$@"
            ;;
        dnf) as_root dnf -y install "$@" ;;
        apk) as_root apk add --update-cache "$@" ;;
        pacman) as_root pacman -Sy --needed --noconfirm "$@" ;;
        brew) brew install "$@" >>"$log" 2>&1 ;;
    esac
}

# Lesson 07 asks for servers by name. The smallest of systems, made by debootstrap
# for example, have no /etc/hosts, and "localhost" means nothing there.
if [ ! -e /etc/hosts ] && [ "$(id -u)" = 0 ]; then
    echo "There is no /etc/hosts on this machine: making one that has localhost."
    printf '127.0.0.1 localhost\n::1 localhost\n' >/etc/hosts
fi

for group in "$@"; do
    look_for "$group"
done
[ -n "$reasons" ] || exit 0

echo "Missing on this machine:$reasons"

# Without what is wanted nothing goes; without what is optional one check less.
stop() {
    echo "$1"
    [ -n "$wanted" ] || exit 0
    echo
    case "$manager $wanted " in
        none* | *' - '*)
            echo "Install what is listed above, then call make again."
            ;;
        *)
            case $manager in
                apk) verb=add ;;
                pacman) verb=-S ;;
                *) verb=install ;;
            esac
            echo "Whoever may install packages here can do it with"
            echo "    $manager $verb$wanted$optional" |
                sed "s/ \([^ ]*([^ ]*\)/ '\1'/g" # as a shell wants it
            echo "Then call make again."
            ;;
    esac
    exit 1
}

case " $wanted " in
    *' - '*) stop "Something on the list has no package here." ;;
esac
[ "$manager" != none ] ||
    stop "There is no apt-get, dnf, apk, pacman or brew here."
[ "$(id -u)" = 0 ] || [ "$manager" = brew ] || has sudo ||
    stop "Only root may install packages, and there is no sudo here."

log=$(mktemp "${TMPDIR:-/tmp}/setup.XXXXXX") || exit 1
trap 'rm -f "$log"' EXIT
if [ -n "$wanted" ]; then
    echo "Installing with $manager:$wanted (this takes a minute or so)"
    # shellcheck disable=SC2086 # one word a package
    install_with $wanted || {
        tail -n 20 "$log"
        stop "$manager could not install it."
    }
fi
for package in $optional; do
    echo "Installing with $manager: $package"
    install_with "$package" ||
        echo "$manager could not install $package; one check is left out."
done
exit 0
