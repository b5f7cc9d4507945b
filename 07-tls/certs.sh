#!/bin/sh
#
# certs.sh [-f] [-k] [FOLDER] - makes what TLS needs on this machine: a small
# certification authority (CA), and a certificate for the server, signed by it.
#
#     FOLDER/ca.pem       the CA's certificate       client -C
#     FOLDER/server.pem   the server's certificate   server -c
#     FOLDER/server.key   the server's private key   server -k
#
# FOLDER is `certs` when none is named: there the programs look for them. What
# is there and good is left as it is; -f makes all of it new. The CA's own key
# signs once and is thrown away, so that nobody can ever sign with it again; -k
# keeps it, as ca.key, for who wants to sign more.
#
# It needs the openssl command (1.1.1 or newer, or LibreSSL's) and nothing else.

set -u

days=825 # macOS and iOS accept no more

complain() {
    echo "certs.sh: $*" >&2
    exit 1
}

usage() {
    echo "usage: certs.sh [-f] [-k] [FOLDER]" >&2
    exit 2
}

force='' keep_ca_key=''
while getopts fk option; do
    case $option in
        f) force=yes ;;
        k) keep_ca_key=yes ;;
        *) usage ;;
    esac
done
shift $((OPTIND - 1))
[ $# -le 1 ] || usage
folder=${1:-certs}
case $folder in -*) folder=./$folder ;; esac

command -v openssl >/dev/null ||
    complain "there is no openssl command here (apt install openssl)"

# ------------------------------------------------------- what is there already

public_key_of_certificate() {
    openssl x509 -noout -pubkey -in "$1" 2>/dev/null
}

public_key_of_key() {
    openssl pkey -pubout -in "$1" </dev/null 2>/dev/null
}

# Whether the group or others may read a file: then a private key is none.
is_open_to_others() {
    [ -n "$(find -L "$1" -prune \( -perm -0040 -o -perm -0004 \))" ]
}

# Says what is wrong with the three files, or nothing.
what_is_wrong() {
    cd "$folder" || { echo "it cannot be entered" && return; }
    for file in ca.pem server.pem server.key; do
        [ -e "$file" ] || { echo "$file is missing" && return; }
    done
    [ -z "$keep_ca_key" ] || [ -e ca.key ] ||
        { echo "ca.key is missing" && return; }
    for file in ca.pem server.pem; do
        openssl x509 -noout -in "$file" >/dev/null 2>&1 ||
            { echo "$file holds no certificate" && return; }
        # Good for a day more at least.
        openssl x509 -noout -checkend 86400 -in "$file" >/dev/null 2>&1 ||
            { echo "$file has expired, or will today" && return; }
    done
    openssl verify -CAfile ca.pem -purpose sslserver server.pem \
        >/dev/null 2>&1 ||
        { echo "server.pem is not of this CA" && return; }
    [ "$(public_key_of_certificate server.pem)" = \
        "$(public_key_of_key server.key)" ] ||
        { echo "server.key does not belong to server.pem" && return; }
    ! is_open_to_others server.key ||
        echo "others could read server.key"
}

valid_until() {
    openssl x509 -noout -enddate -in "$folder/server.pem" | sed 's/.*=//'
}

if [ -d "$folder" ] && [ -z "$force" ]; then
    wrong=$(what_is_wrong)
    if [ -z "$wrong" ]; then
        echo "$folder holds good certificates, valid until $(valid_until);" \
            "-f makes new ones"
        exit 0
    fi
    # An empty folder needs no word.
    [ ! -e "$folder/server.pem" ] || echo "$folder: $wrong; making all new"
fi

# ---------------------------------------------------------------- making them

mkdir -p "$folder" || complain "cannot make the folder $folder"

# From here on every file is born for its owner alone. With chmod afterwards a
# key could be read by everybody for a moment, and a moment is enough.
umask 077

# They are made in a folder of their own and moved when all are there, so that
# a server that starts meanwhile finds whole files: the old ones, the new ones,
# or for a moment a key and a certificate that do not belong together.
made=$(mktemp -d "$folder/.making.XXXXXX") ||
    complain "cannot write into $folder"
trap 'rm -rf "$made"' EXIT
trap 'exit 1' HUP INT TERM

cat >"$made/config" <<'END'
[req]
distinguished_name = name
prompt = no

[name]
CN = overridden by -subj

# It may sign certificates, and nothing else.
[ca]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign
subjectKeyIdentifier = hash

# The names and addresses under which the server can be reached stand in
# subjectAltName; clients look nowhere else.
[server]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectAltName = DNS:localhost, IP:127.0.0.1, IP:::1
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
END

# What openssl says is shown when it fails.
run_openssl() {
    openssl "$@" >"$made/log" 2>&1 </dev/null || {
        cat "$made/log" >&2
        complain "openssl $1 failed"
    }
}

# A key on the curve P-256.
make_key() {
    run_openssl ecparam -name prime256v1 -genkey -noout -out "$1"
}

# Nobody can guess it, and no two certificates have the same.
serial_number() {
    printf '0x01%s' "$(openssl rand -hex 15)"
}

make_key "$made/ca.key"
run_openssl req -x509 -new -key "$made/ca.key" -out "$made/ca.pem" \
    -sha256 -days "$days" -set_serial "$(serial_number)" \
    -subj "/CN=CA for TLS on this machine" \
    -config "$made/config" -extensions ca

make_key "$made/server.key"
run_openssl req -new -key "$made/server.key" -out "$made/server.csr" \
    -subj "/CN=localhost" -config "$made/config"
run_openssl x509 -req -in "$made/server.csr" -out "$made/server.pem" \
    -CA "$made/ca.pem" -CAkey "$made/ca.key" \
    -sha256 -days "$days" -set_serial "$(serial_number)" \
    -extfile "$made/config" -extensions server

chmod a+r "$made/ca.pem" "$made/server.pem"
rm -f "$folder/ca.key"
[ -z "$keep_ca_key" ] || mv -f "$made/ca.key" "$folder/ca.key" || exit 1
for file in server.key server.pem ca.pem; do
    mv -f "$made/$file" "$folder/$file" ||
        complain "cannot write $folder/$file"
done
echo "made $folder/ca.pem, $folder/server.pem and $folder/server.key," \
    "valid until $(valid_until)"
