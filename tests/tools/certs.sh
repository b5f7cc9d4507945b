#!/usr/bin/env bash
#
# certs.sh FOLDER - makes the certificates that lesson 07's tests need, the good
# ones with 07-tls/certs.sh and beside them every kind of bad one.
#
# All certificates of servers but next.pem are for the key server.key, so that
# nothing is wrong with them but the one thing that their name says:
#
#     ca.pem server.pem server.key   good
#     only-name.pem      for localhost, and for no address
#     only-address.pem   for 127.0.0.1 and ::1, and for no name
#     other-name.pem     for other.example
#     longer-name.pem    for localhost.example and not-localhost
#     address-as-name.pem
#                        for 127.0.0.1, as a dNSName
#     common-name.pem    for 192.0.2.1, with localhost for a common name
#     other-address.pem  for 192.0.2.1
#     chain.pem          good; signed by a second CA, which ca.pem has signed
#     expired.pem        not valid any more
#     future.pem         not valid yet
#     purpose.pem        good for a client (clientAuth), not for a server
#     self-signed.pem    signed by itself
#     stranger.pem       signed by a CA that nobody knows
#     stranger-chain.pem the same, and that CA's own behind it
#     impostor.pem       signed by a CA that says it is ca.pem: it has the same
#                        name, and the same name of its key
#     by-a-leaf.pem      signed by server.pem, which is no CA
#     stranger-ca.pem    the CA of stranger.pem
#     next.pem next.key  good too: what a server changes to
#     clients-ca.pem clients-ca.key
#                        a CA for clients, with its key: the tests sign with it
#     other.key          belongs to no certificate here
#     open-to-group.key open-to-others.key open-to-all.key
#                        server.key with the modes 0640, 0604 and 0644
#     read-only.key      server.key with the mode 0400
#     garbage.pem garbage.key empty.pem cut.pem cut.key
#     folder.key         a folder
#
# And old.cnf, a configuration of OpenSSL (OPENSSL_CONF) that allows TLS 1.0 and
# 1.1 to whoever does not forbid them.

set -u

fail() {
    echo "certs.sh: $*" >&2
    exit 1
}

[ $# = 1 ] || fail "usage: certs.sh FOLDER"
top=$(cd "$(dirname "$0")/../.." && pwd)
umask 077
rm -rf "$1"
mkdir -p "$1" || exit 1
log=$1/log
"$top/07-tls/certs.sh" -k "$1" >"$log" 2>&1 || { cat "$log" && exit 1; }
cd "$1" || exit 1
log=log

cat >config <<'END'
[req]
distinguished_name = name
prompt = no
[name]
CN = overridden by -subj

# What `openssl ca` wants: it is the only command that takes any dates, in every
# version.
[ca]
default_ca = books
[books]
database = index
new_certs_dir = .
serial = serial
default_md = sha256
policy = anything
unique_subject = no
[anything]
commonName = supplied

[leaf]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = $ENV::PURPOSE
subjectAltName = $ENV::NAMES
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
[own]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectAltName = $ENV::NAMES
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign
subjectKeyIdentifier = $ENV::KEY_NAME
END
: >index
echo 1000 >serial
good='DNS:localhost, IP:127.0.0.1, IP:::1'
export NAMES=$good PURPOSE=serverAuth KEY_NAME=hash

run_openssl() {
    openssl "$@" >"$log" 2>&1 </dev/null ||
        { cat "$log" >&2 && fail "openssl $* failed"; }
}

make_key() {
    run_openssl ecparam -name prime256v1 -genkey -noout -out "$1"
}

# request KEY FILE SUBJECT: asks for a certificate for a key.
request() {
    run_openssl req -new -key "$1" -subj "/CN=$3" \
        -config config -out "$2"
}

# authority KEY FILE NAME: a CA.
authority() {
    make_key "$1"
    run_openssl req -x509 -new -key "$1" -sha256 -days 800 \
        -subj "/CN=$3" -config config -extensions authority -out "$2"
}

# sign CSR FILE CA CA-KEY EXTENSIONS [FROM UNTIL]: two digits of a year stand for
# one before 2050.
sign() {
    run_openssl ca -batch -notext -config config -in "$1" -out "$2" \
        -cert "$3" -keyfile "$4" -extensions "$5" \
        -startdate "${6:-200101000000Z}" -enddate "${7:-490101000000Z}"
}

request server.key server.csr "a server of the tests"
leaf() {
    sign server.csr "$1" ca.pem ca.key leaf "${2:-}" "${3:-}"
}

NAMES='DNS:localhost' leaf only-name.pem
NAMES='IP:127.0.0.1, IP:::1' leaf only-address.pem
NAMES='DNS:other.example' leaf other-name.pem
NAMES='DNS:localhost.example, DNS:not-localhost' leaf longer-name.pem
NAMES='DNS:127.0.0.1' leaf address-as-name.pem
request server.key common.csr localhost
NAMES='IP:192.0.2.1' sign common.csr common-name.pem ca.pem ca.key leaf
NAMES='IP:192.0.2.1, IP:2001:db8::1' leaf other-address.pem
leaf expired.pem 200101000000Z 210101000000Z
leaf future.pem 480101000000Z 490101000000Z
PURPOSE=clientAuth leaf purpose.pem

run_openssl req -x509 -new -key server.key -sha256 -days 800 \
    -subj "/CN=a server of the tests" -config config -extensions own -out self-signed.pem

authority stranger-ca.key stranger-ca.pem "A CA that nobody knows"
sign server.csr stranger.pem stranger-ca.pem stranger-ca.key leaf
cat stranger.pem stranger-ca.pem >stranger-chain.pem
key_name=$(openssl x509 -noout -text -in ca.pem |
    sed -n '/Subject Key Identifier/{n;s/ //g;p;}')
KEY_NAME=$key_name authority impostor-ca.key impostor-ca.pem \
    "CA for TLS on this machine"
sign server.csr impostor.pem impostor-ca.pem impostor-ca.key leaf

make_key second-ca.key
request second-ca.key second-ca.csr "A CA in between"
sign second-ca.csr second-ca.pem ca.pem ca.key authority
sign server.csr chain.pem second-ca.pem second-ca.key leaf
cat second-ca.pem >>chain.pem

sign server.csr by-a-leaf.pem server.pem server.key leaf
cat server.pem >>by-a-leaf.pem

make_key next.key
request next.key next.csr "the next server of the tests"
sign next.csr next.pem ca.pem ca.key leaf
authority clients-ca.key clients-ca.pem "A CA for clients"

make_key other.key
for mode in 640:open-to-group 604:open-to-others 644:open-to-all \
    400:read-only; do
    cp server.key "${mode#*:}.key"
    chmod "${mode%:*}" "${mode#*:}.key"
done
echo 'This is no certificate and no key.' | tee garbage.pem >garbage.key
: >empty.pem
head -n 4 server.pem >cut.pem
head -n 2 server.key >cut.key
mkdir folder.key

cat >old.cnf <<'END'
openssl_conf = all
[all]
ssl_conf = ssl
[ssl]
system_default = old
[old]
MinProtocol = TLSv1
CipherString = DEFAULT:@SECLEVEL=0
END

# What no test needs.
rm -f ca.key stranger-ca.key impostor-ca.key impostor-ca.pem second-ca.* \
    ./*.csr config index* serial* [0-9A-F]*.pem log
