# SPDX-License-Identifier: AGPL-3.0-or-later
# Checks the bundle in whose folder it is run; needs a POSIX shell, GNU coreutils, find, xargs, grep, sed, cmp and OpenSSL 3.
# Keep it outside of that folder, and say there: sh ../check-bundle.sh
ROOT=${ROOT:-../root.json}
AUTHORITY=${AUTHORITY:-../authority.pem}
# What may stand in a file is said by forms; nothing that does not fit one is ever counted with, run or printed as it is.
ID='[a-z2-7]{32}' HASH='[0-9a-f]{64}' DAY='[0-9]{4}-[0-9]{2}-[0-9]{2}' WORD='[^"\\]*' NUMBER='0|[1-9][0-9]{0,15}'
KEY='[A-Za-z0-9+/]{43}=' SIGNATURE='[A-Za-z0-9+/]{86}=='
TAGS='(README\.(ar|en)|bag-info|bagit|manifest-sha256|tagmanifest-sha256)\.txt|bundle\.json'
SMALL='receipt\.json|export/(request|approval)\.json|releases/(identity|originals)\.json|(policies|statements)/[0-9]{1,5}\.json'
EVENTS='custody/[0-9]{5}\.(event\.json|key|proof)|stamps/[1-9][0-9]{0,4}/(checkpoint|[0-9]{5}\.proof|[a-z0-9][a-z0-9-]{0,31}\.(tsr|pem))'
DIRECTORY='directory/([1-9][0-9]{0,8}\.(root|targets)\.json|targets/[0-9a-f]{64})'
OBJECTS='openings/[0-9]{1,2}\.json|sealed/[0-9]{1,2}\.age|files/[0-9]{1,2}\.[a-z0-9]{1,8}|derived/[0-9]{1,4}\.[a-z0-9]{1,8}'
RECEIPT="(\{'case':'($ID)','deployment':'$WORD','event':(\{.*\}),'key':'($KEY)','received_on':'($DAY)'),'sig':'($SIGNATURE)','v':1\}"
ARRIVAL="\{'case':'$ID','deployment':'$WORD','grants':\[[^]]*\],'kind':'testimony-received','manifest_sha256':'$HASH',\
'objects':\[([^]]*)\],'policy_sha256':'$HASH','received_on':'$DAY','shares':\[(.*)\],'v':1\}"
INDEX="\{'case':'($ID)','deployment':'$WORD','derived':\[[^]]*\],'directory':[0-9]+,'export':'$ID','identity_level':'[a-z-]+',\
'made_on':'$DAY','maker':'$ID','manifest_sha256':'($HASH)','objects':\[([^]]*)\],'purpose':'$WORD','released':\[[^]]*\],\
'sig':'$SIGNATURE','tags':\{[^}]*\},'to':'$ID','v':1\}"
OPENING="\{'file_key':'([A-Za-z0-9+/]{22}==)','len':($NUMBER),'sealed_sha256':'($HASH)','sha256':'($HASH)','v':1\}"
# Tools.
tell() { printf '%s %s' "$1" "$2" | tr -c ' -~' '?'; echo; echo >> "$T/$1"; }
stop() { tell "$1" "$2"; exit; }
count() { grep -c "${2-}" "$1"; }
part() { [ -f "$1" ] && [ "$(tr -dc '\000-\037\177' < "$1" | wc -c)" -eq 0 ] && sed -En "s#^$(printf '%s' "$2" | tr "'" '"')\$#\\$3#p" "$1"; }
is_number() { case $1 in '' | 0?* | *[!0-9]* | ?????????????????*) return 1 ;; esac; }
hex() { od -An -v -tx1 | tr -d ' \n'; }
unhex() { tr a-f A-F | basenc --base16 -d; }
decoded() { printf '%s' "$1" | base64 -d; }
hmac() { openssl dgst -sha256 -mac HMAC -macopt hexkey:"$1" -binary; }
hkdf() { openssl kdf -binary -keylen 32 -kdfopt digest:SHA256 -kdfopt hexkey:"$1" -kdfopt info:"$2" ${3:+-kdfopt} ${3:+"$3"} HKDF | hex; }
signed() { openssl pkeyutl -verify -pubin -inkey "$T/log.pem" -rawin -in "$T/message" -sigfile "$T/signature" > "$T/out"; }
# 1. Every file is a plain one, of a kind that a bundle holds, and in a list with its hash; the lists hold nothing else.
odd() {
  tr '\n\0' '?\n' | head -n 20 > "$T/names"
  while IFS= read -r name <&3; do tell BAD "FILES: $name $1"; done 3< "$T/names"
}
listed() {
  xargs sha256sum > "$T/these"; cat "$T/these" >> "$T/found"
  if [ ! -f "$1" ]; then tell BAD "FILES: $1 is missing"; return; fi
  if cmp -s "$T/these" "$1"; then return; fi
  tell BAD "FILES: $1 is not the list of what is here"
  sort "$T/these" > "$T/here"; sort "$1" > "$T/list"
  comm -23 "$T/here" "$T/list" | cut -c 67- > "$T/names"
  while read -r name <&3; do tell BAD "FILES: $name was altered, or is not listed"; done 3< "$T/names"
  comm -13 "$T/here" "$T/list" | cut -c 67- > "$T/names"
  while read -r name <&3; do if [ ! -f "$name" ]; then tell BAD "FILES: $name is listed and missing"; fi; done 3< "$T/names"
}
files() {
  find . ! -type f ! -type d -print0 | odd 'is a link, or something else that is no file'
  find . -mindepth 1 '(' -name '[!A-Za-z0-9]*' -o -name '*[!A-Za-z0-9._-]*' ')' -print0 | odd 'has a name that nothing in a bundle has'
  if [ -s "$T/BAD" ]; then stop 'NOT CHECKED' 'ALL ELSE: in such a folder nothing more is read'; fi
  find . -type f | cut -c 3- | sort > "$T/paths"
  grep -Evx "$TAGS|data/($SMALL|$EVENTS|$DIRECTORY|$OBJECTS)" "$T/paths" > "$T/names"
  while read -r name <&3; do tell BAD "FILES: $name does not belong into a bundle"; done 3< "$T/names"
  grep '^data/' "$T/paths" | listed manifest-sha256.txt
  grep -v -e '^data/' -e '^tagmanifest-sha256\.txt$' "$T/paths" | listed tagmanifest-sha256.txt
  if [ ! -s "$T/BAD" ]; then tell ok "FILES: $(count "$T/paths") files, all of them listed, none altered, none missing"
  else tell note "FILES: $(count "$T/paths") files are here, with faults as above"; fi
}
# 2. The receipt was signed by the key that the officers' root names. All that follows is measured by the signed text.
receipt() {
  pinned=$(tr -d ' \t\r\n' < "$ROOT" | sed -En 's/.*"custody_log":\{([^}]*)\}.*/,\1,/p')
  log_key=$(printf '%s\n' "$pinned" | sed -En "s#.*,\"key\":\"($KEY)\",.*#\1#p"); origin=$(printf '%s\n' "$pinned" | sed -En 's/.*,"origin":"([^"\\]+)",.*/\1/p')
  { echo 302A300506032B6570032100 | unhex; decoded "$log_key"; } > "$T/key"
  if [ -z "$log_key" ] || [ -z "$origin" ] || ! openssl pkey -pubin -inform DER -in "$T/key" -out "$T/log.pem"
  then stop 'NOT CHECKED' "ALL ELSE: there is no root file at $ROOT. Get it from the officers; this says nothing against the bundle"; fi
  printf 'amana-receipt-v1\0%s,"v":1}' "$(part data/receipt.json "$RECEIPT" 1)" > "$T/message"
  decoded "$(part data/receipt.json "$RECEIPT" 6)" > "$T/signature"
  if ! signed; then tell BAD "RECEIPT: data/receipt.json is missing, altered, or signed by another service than that of $ROOT"
    stop 'NOT CHECKED' 'ALL ELSE: without the receipt nothing tells what arrived'; fi
  about=$(part data/receipt.json "$RECEIPT" 2); day=$(part data/receipt.json "$RECEIPT" 5)
  decoded "$(part data/receipt.json "$RECEIPT" 4)" | hex > "$T/arrival.key"; part data/receipt.json "$RECEIPT" 3 | tr -d '\n' > "$T/arrival"
  part "$T/arrival" "$ARRIVAL" 1 | tr '}' '\n' | sed -En "s/^,?\{\"i\":($NUMBER),\"sealed_sha256\":\"($HASH)\",\"size\":[0-9]+\$/\1 \2/p" > "$T/arrived"
  part "$T/arrival" "$ARRIVAL" 2 | tr '{}' '\n\n' | sed -En 's/.*"objects":\[([0-9,]*)\].*/\1/p' | tr ',' '\n' > "$T/vaulted"
  if [ ! -s "$T/arrived" ]; then stop 'NOT CHECKED' 'ALL ELSE: the receipt is signed, and in a form that these commands do not know'; fi
  tell ok "RECEIPT: signed by the service: case $about, received on $day, objects: $(count "$T/arrived")"
}
# 3. Each object of the receipt is here as it arrived, and its content is what was sealed. The header's MAC ties the sealed file to
#    one key; then the frame must be to the last byte: length in 8 bytes, the content, zeros.
frame() {
  payload=$(hkdf "$2" payload "hexsalt:$(head -c 1643 "$1" | tail -c 16 | hex)"); chunk=0; left=$(($(wc -c < "$1") - 1643))
  while [ "$left" -gt 0 ]; do
    if [ "$left" -gt 65552 ]; then last=00; else last=01; fi
    tail -c +$((1644 + chunk * 65552)) "$1" | head -c 65552 | head -c -16 |
      openssl enc -d -chacha20 -K "$payload" -iv "$(printf '01000000%022x%s' "$chunk" "$last")"
    chunk=$((chunk + 1)); left=$((left - 65552))
  done
}
content() {
  sealed=data/sealed/$1.age; opening=data/openings/$1.json
  file_key=$(decoded "$(part "$opening" "$OPENING" 1)" | hex)
  if [ -z "$file_key" ]; then tell BAD "CONTENT: $opening is missing, or not in its form"; return; fi
  header='age-encryption\.org/v1|-> mlkem768x25519 [A-Za-z0-9+/]+|[A-Za-z0-9+/]{43}|--- [A-Za-z0-9+/]{43}'
  mac=$(head -c 1582 "$sealed" | hmac "$(hkdf "$file_key" header)" | base64 | tr -d =)
  if [ "$(head -c 1627 "$sealed" | grep -Ecx "$header")" -ne 4 ] || [ "$(head -c 1626 "$sealed" | tail -c 43)" != "$mac" ]
  then tell BAD "CONTENT: the key in $opening does not fit $sealed"; return; fi
  if [ ! -f "$2" ]; then tell BAD "CONTENT: $2 is missing"; return; fi
  length=$(wc -c < "$2"); whole=$(($(wc -c < "$sealed") - 1643)); zeros=$((whole - (whole + 65551) / 65552 * 16 - 8 - length))
  if [ "$zeros" -lt 0 ] || [ "$(frame "$sealed" "$file_key" | sha256sum)" != \
    "$({ printf '%016x' "$length" | unhex; cat "$2"; head -c "$zeros" /dev/zero; } | sha256sum)" ]
  then tell BAD "CONTENT: $2 is not what was sealed in $sealed: altered, cut or longer"; return; fi
  tell ok "CONTENT: $2 is what was sealed, $length bytes"; echo >> "$T/open"
  if [ "$(part "$opening" "$OPENING" 2)" != "$length" ] || ! grep -qFx "$(part "$opening" "$OPENING" 4)  $2" "$T/found" ||
    [ "$(part "$opening" "$OPENING" 3)" != "$3" ]
  then tell BAD "OPENING: $opening names another length or hash than that of $2, which is what was sealed"; fi
}
objects() {
  if ! part bundle.json "$INDEX" 1 | grep -q .; then tell BAD 'INDEX: bundle.json is missing, or not in its form'
    stop 'NOT CHECKED' 'ALL ELSE: without bundle.json nothing tells what is open and what is closed'; fi
  if [ "$(part bundle.json "$INDEX" 1)" != "$about" ] || ! grep -qFx "$(part bundle.json "$INDEX" 2)  manifest-sha256.txt" "$T/found"
  then tell BAD 'INDEX: bundle.json is of another case, or of another list of files'; fi
  part bundle.json "$INDEX" 3 | tr '}' '\n' |
    sed -En 's/^,?\{"i":([0-9]{1,2}),"mime":"[^"]*","path":(null|"(data\/files\/([0-9]{1,2})\.[a-z0-9]{1,8})")$/\1 \4 \3/p' > "$T/index"
  cut -d ' ' -f 1 "$T/arrived" | sort > "$T/list"; cut -d ' ' -f 1 "$T/index" | sort | comm -23 - "$T/list" > "$T/names"
  while read -r name <&3; do tell BAD "INDEX: bundle.json lists object $name, which never arrived"; done 3< "$T/names"
  while read -r i hash <&5; do
    sealed=data/sealed/$i.age; path=$(sed -n "s/^$i $i //p" "$T/index"); echo "$sealed" >> "$T/used"
    case "$(count "$T/index" "^$i ") $(count "$T/index" "^$i  \$") ${path:+$i}" in
      "1 0 $i") is=open; printf '%s\n' "$path" "data/openings/$i.json" >> "$T/used" ;;
      '1 1 ') is=closed ;;
      *) is=unlisted
        if [ ! -f "$sealed" ] && grep -qx "$i" "$T/vaulted"
        then tell note "SEALED: object $i was sealed for the custodians and is not in this bundle"; echo >> "$T/kept"; continue; fi
        tell BAD "INDEX: bundle.json does not list object $i as it should" ;;
    esac
    if [ ! -f "$sealed" ]; then tell BAD "SEALED: $sealed is missing; object $i arrived"
    elif ! grep -qFx "$hash  $sealed" "$T/found"; then tell BAD "SEALED: $sealed is not what arrived"
    else
      tell ok "SEALED: $sealed is what arrived"
      case $is in
        open) content "$i" "$path" "$hash" ;;
        closed) tell note "CONTENT: object $i is closed: this bundle does not show what is in $sealed"; echo >> "$T/closed" ;;
      esac
      is=told
    fi
    if [ $is = open ]; then tell 'NOT CHECKED' "CONTENT: $path, for want of what arrived as $sealed"; fi
  done 5< "$T/arrived"
  sort "$T/used" > "$T/list"; grep -E '^data/(files|openings|sealed)/' "$T/paths" | comm -23 - "$T/list" > "$T/names"
  while read -r name <&3; do tell BAD "OBJECTS: $name belongs to nothing that arrived or is listed as open"; done 3< "$T/names"
  objects="objects arrived: $(count "$T/arrived"), open here: $(count "$T/open"), closed: $(count "$T/closed"), left with custodians: $(count "$T/kept")"
  tell note "OBJECTS: $objects"; grep '^data/derived/' "$T/paths" > "$T/names"
  while read -r name <&3; do tell note "DERIVED: $name was added by who made the bundle; nothing here proves what is in it"; done 3< "$T/names"
}
# 4. Every event is about this case and stands in the service's log, which signed its state; the receipt's arrival is one of them.
stands() {
  [ -f "$1" ] && [ -f "$2" ] && [ -f "$3" ] && [ "$(wc -c < "$2")" -eq 65 ] || return 1
  event_key=$(head -c 64 "$2"); case $event_key in *[!0-9a-f]*) return 1 ;; esac; [ ${#event_key} -eq 64 ] || return 1
  sed '/^$/,$d' "$3" | sed -E '2{/^extra [A-Za-z0-9+/=]+$/d;}' > "$T/path"; sed '1,/^$/d' "$3" > "$T/note"; sed 1,2d "$T/path" > "$T/beside"
  [ "$(sed -n 1p "$T/path")" = c2sp.org/tlog-proof@v1 ] && [ "$(grep -Ecvx "$KEY" "$T/beside")" -eq 0 ] && [ "$(count "$T/beside")" -le 63 ] || return 1
  place=$(sed -n '2s/^index //p' "$T/path"); size=$(sed -n 2p "$T/note"); state=$(sed -n 3p "$T/note")
  case $(sed -n 1p "$T/note") in "$origin") ;; "${origin%/*}"/?*) return 2 ;; *) return 1 ;; esac
  is_number "$place" && is_number "$size" && [ "$place" -lt "$size" ] && [ -z "$(sed -n 4p "$T/note")" ] || return 1
  head -n 3 "$T/note" > "$T/message"; sed 1,4d "$T/note" | head -n 64 > "$T/lines"; is_signed=no
  while read -r _ name signature <&4; do
    if [ "$name" = "$origin" ] && printf '%s\n' "$signature" | grep -Eqx '[A-Za-z0-9+/]{91}='; then
      decoded "$signature" | tail -c +5 > "$T/signature"; if signed; then is_signed=yes; fi
    fi
  done 4< "$T/lines"
  found=$({ printf '\0'; hmac "$event_key" < "$1"; } | sha256sum | cut -c 1-64); at=$place; end=$((size - 1))
  while read -r beside <&4; do
    if [ "$end" -eq 0 ]; then return 1; fi
    beside=$(decoded "$beside" | hex)
    if [ $((at % 2)) -eq 1 ] || [ "$at" -eq "$end" ]; then
      found=$(printf %s "01$beside$found" | unhex | sha256sum | cut -c 1-64)
      while [ $((at % 2)) -eq 0 ] && [ "$at" -ne 0 ]; do at=$((at / 2)); end=$((end / 2)); done
    else found=$(printf %s "01$found$beside" | unhex | sha256sum | cut -c 1-64); fi
    at=$((at / 2)); end=$((end / 2))
  done 4< "$T/beside"
  [ "$end" -eq 0 ] && [ "$is_signed" = yes ] && printf '%s\n' "$state" | grep -Eqx "$KEY" && [ "$found" = "$(decoded "$state" | hex)" ]
}
events() {
  sed -En 's#^data/custody/([0-9]{5})\..*#\1#p' "$T/paths" | sort -u > "$T/numbers"; next=1; before=-1; arrival=no; elsewhere=no
  while read -r number <&5; do
    event=data/custody/$number.event.json
    if [ "$number" != "$(printf %05d "$next")" ]; then tell BAD "EVENT: event $(printf %05d "$next") is missing; the numbers have a gap"; next=$((1$number - 100000)); fi
    next=$((next + 1)); stands "$event" "data/custody/$number.key" "data/custody/$number.proof"
    case $? in
      0) if [ "$place" -le "$before" ]; then tell BAD "EVENT: $event is not in the order of the log"; fi
        before=$place; cases=$(tr ',{}' '\n\n\n' < "$event" | grep '^"case":' | sort -u)
        if [ "$cases" != "\"case\":\"$about\"" ]; then tell BAD "EVENT: $event is about another case"
        else tell ok "EVENT: $event stands in the log, place $place"; echo >> "$T/standing"; fi
        if cmp -s "$event" "$T/arrival" && [ "$event_key" = "$(cat "$T/arrival.key")" ]; then arrival=yes; fi ;;
      2) elsewhere=yes; tell 'NOT CHECKED' "EVENT: $event is shown in another log than the one that $ROOT names" ;;
      *) tell BAD "EVENT: $event is not shown to stand in the log: a file of it is missing or altered" ;;
    esac
  done 5< "$T/numbers"
  if [ $arrival$elsewhere = nono ]; then tell BAD 'EVENT: the arrival of which the receipt tells is not among the events'; fi
  events="events in the log: $(count "$T/standing") of $(count "$T/numbers")"; tell note "EVENTS: $events"
}
# 5. Until when they existed: an authority outside saw the state of the log at a time that it names and signs.
verified() { openssl ts -verify -data "$1/checkpoint" -in "$T/token" -token_in -untrusted "${2%.tsr}.pem" -CAfile "$3" -attime "$time" > "$T/out"; }
stamp() {
  # The answer around the token is signed by nobody.
  rm -f "$T/token"; openssl ts -reply -in "$2" -token_out -out "$T/token"; openssl ts -reply -in "$T/token" -token_in -text > "$T/out"
  sed -En 's/^Time stamp: ([A-Z][a-z]{2} [ 0-9][0-9] [0-9:]{8}(\.[0-9]+)? [0-9]{4} GMT)$/\1/p' "$T/out" > "$T/time"; said=$(cat "$T/time")
  if [ "$(count "$T/time")" -ne 1 ] || ! time=$(date -d "$said" +%s) || ! verified "$1" "$2" "${2%.tsr}.pem"; then tell BAD "TIME: $2 does not hold"
  elif verified "$1" "$2" "$AUTHORITY"; then tell ok "TIME: $2 says $said"; timed=yes
  else tell note "TIME: $2 is of another authority than $AUTHORITY, and does not count"; fi
}
stamps() {
  sed -En 's#^(data/stamps/[1-9][0-9]{0,4})/.*#\1#p' "$T/paths" | sort -u > "$T/folders"
  if [ ! -s "$T/folders" ]; then tell note 'TIME: the bundle holds no time stamp; only the service says when it came'; return; fi
  if [ ! -f "$AUTHORITY" ]; then tell 'NOT CHECKED' "TIME: there is no certificate at $AUTHORITY. Get it from the authority; this says nothing against the bundle"; return; fi
  while read -r folder <&5; do
    timed=no
    grep "^$folder/.*\.tsr\$" "$T/paths" > "$T/stamps"; grep "^$folder/.*\.proof\$" "$T/paths" > "$T/proofs"
    if [ ! -s "$T/stamps" ] || [ ! -s "$T/proofs" ] || [ ! -f "$folder/checkpoint" ]; then tell BAD "TIME: $folder lacks a part of a time stamp"; fi
    while read -r answer <&6; do stamp "$folder" "$answer"; done 6< "$T/stamps"
    while read -r proof <&6; do
      number=${proof##*/}; number=${number%.proof}; event=data/custody/$number.event.json
      stands "$event" "data/custody/$number.key" "$proof"
      case $? in
        0) if ! cmp -s "$T/note" "$folder/checkpoint"; then tell BAD "STAMPED: $proof is of another checkpoint"
          elif [ $timed = yes ]; then tell ok "STAMPED: $event by $folder"; echo "$event" >> "$T/stamped"; fi ;;
        2) tell 'NOT CHECKED' "STAMPED: $proof is of another log than the one that $ROOT names" ;;
        *) tell BAD "STAMPED: $proof does not show that $event was there" ;;
      esac
    done 6< "$T/proofs"
  done 5< "$T/folders"
  tell note "TIMES: events with a time: $(sort -u "$T/stamped" | count -) of $(count "$T/numbers")"
}
# Whatever happens, the last line is a verdict.
verdict() {
  if [ -s "$T/BAD" ]; then echo "VERDICT: BAD. Do not rely on this bundle: lines that begin with BAD: $(count "$T/BAD")"
  elif [ -s "$T/NOT CHECKED" ] || [ $finished = no ]; then echo 'VERDICT: NOT ALL WAS CHECKED. Nothing was found wrong as far as it went'
  else echo "VERDICT: GOOD. Case $about, received on $day; $objects; $events, with a time: $(sort -u "$T/stamped" | count -)"; fi
  rm -r "$T"
}
check_bundle() (
  set -f; LC_ALL=C; export LC_ALL; T=$(mktemp -d) || exit; exec 2> "$T/errors"; finished=no
  for list in BAD 'NOT CHECKED' arrived open closed kept standing stamped used found; do : > "$T/$list"; done
  trap verdict EXIT
  if [ "$(hkdf 00 test | cut -c 1-16)$(printf test | openssl enc -chacha20 -K 00 -iv 00 | hex)" != b1a58c8e2a9efcc202dd93d9 ] ||
    [ "$(printf FF00 | unhex | head -c -1 | hex)$(date -d 'Jan  1 00:00:00 2026 GMT' +%s)" != ff1767225600 ]
  then stop 'NOT CHECKED' 'ALL: this system lacks GNU coreutils or OpenSSL 3; this says nothing against the bundle'; fi
  if [ ! -f bundle.json ] && [ ! -d data ]; then stop 'NOT CHECKED' 'ALL: there is no bundle in this folder; go into the folder of its README'; fi
  files; receipt; objects; events; stamps; finished=yes
)
check_bundle
