#!/bin/sh
# A rotation script for a service with API keys, in the shell: needs curl and jq. docs/rotation-methods.md says what
# Warder asks on standard input and what it expects on standard output. Change the calls to those of your service.
#
# Secrets stand in variables of this shell and go through pipes: never in an argument, which everybody on the machine
# can read with ps.
set -eu

question=$(cat)
ask() { printf '%s' "$question" | jq -er "$1"; }
refuse() {
  jq -n --arg reason "$1" '{reason: $reason}'
  exit 10
}

# @sh quotes for the shell: nothing in the question can become a command.
eval "$(ask '@sh "step=\(.step) rotation_id=\(.rotation_id) in_force=\(.current.id // "")
  service=\(.connection.settings.base_url)"')"
# A second key that may make and delete keys, where the secret of the connection has one.
manager='(.current.admin_key // .current.value)'

# call KEY METHOD PATH [curl's options]: KEY is a jq expression. Leaves the answer in $status and $body.
call() {
  key=$1 method=$2 path=$3
  shift 3
  answer=$(ask "\"header = \" + (\"Authorization: Bearer \" + $key | @json)" |
    curl --config - --silent --show-error --max-time 20 --request "$method" --write-out '\n%{http_code}' \
      "$@" "$service$path")
  status=${answer##*[!0-9]}
  body=${answer%???}
}

# The id of one key, as a part of a path.
delete_key() {
  call "$manager" DELETE "/v1/keys/$(printf '%s' "$1" | jq -Rr @uri)"
  # 404: it is gone already, which is what is wanted.
  case $status in 204 | 404) ;; *) exit 1 ;; esac
}

# All keys that this rotation made: a call before may have done its work without anybody hearing of it.
delete_made() {
  cursor=0
  found=
  while [ -n "$cursor" ]; do
    call "$manager" GET "/v1/keys?cursor=$cursor"
    [ "$status" = 200 ]
    found="$found
$(printf '%s' "$body" | jq -r --arg name "$rotation_id" '.data[] | select(.name == $name) | .id')"
    cursor=$(printf '%s' "$body" | jq -r '.next_cursor // empty')
  done
  printf '%s\n' "$found" | while IFS= read -r id; do
    if [ -n "$id" ] && [ "$id" != "$in_force" ]; then delete_key "$id"; fi
  done
}

case $step in
  create)
    delete_made
    # The name finds it again when this answer is lost.
    call "$manager" POST /v1/keys --json "$(jq -n --arg name "$rotation_id" '{name: $name}')"
    case $status in
      201) printf '%s' "$body" | jq '{secret: {value: .data.key, id: .data.id}}' ;;
      401 | 403) refuse "the service answered $status: this key may not make keys" ;;
      *) exit 1 ;;
    esac
    ;;
  test)
    call .secret.value GET /v1/me
    case $status in
      200) echo '{}' ;;
      401 | 403) refuse "the service answered $status" ;;
      *) exit 1 ;;
    esac
    ;;
  undo)
    delete_made
    echo '{}'
    ;;
  retire)
    delete_key "$(ask .previous.id)"
    echo '{}'
    ;;
  # set: nothing, a key of this service works from the moment it is made. Whatever else Warder may ask one day: the same.
  *) echo '{}' ;;
esac
