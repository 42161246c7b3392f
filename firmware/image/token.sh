#!/bin/sh
# Signs what comes in with the Ed25519 key of a token; 64 bytes come out. token.sh URI, in the tools root.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
# A file, because this signature is over the whole and openssl wants to know its size.
cat >"$folder/what"
# In this order: with its own algorithms second, openssl asks a token in software for what that asks of openssl. Some modules
# crash when they are done; the caller verifies the signature, so what counts is whether there is one.
openssl pkeyutl -sign -rawin -provider default -provider pkcs11 -inkey "$1" -in "$folder/what" -out "$folder/signature" >&2 || true
cat "$folder/signature"
