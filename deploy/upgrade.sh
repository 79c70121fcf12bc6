#!/bin/sh
# Upgrades Concord to a release in a folder of its own, and returns to the old one if that fails:
#
#   deploy/upgrade.sh /opt/concord-0.3.0 /var/backups/concord-0.3.0
#
# The second folder is created for a backup of the database. The settings of the service must be in the environment.
set -eu
new=$1 backup=$2
# A link to the folder of the release in use, a command that restarts all processes, and what must be ready after about
# PATIENCE seconds.
link=${CONCORD:-/opt/concord}
restart=${RESTART:-systemctl restart concord}
ready=${READY:-http://127.0.0.1:8080/health/ready}
old=$(readlink -f "$link")

# start FOLDER: restart with the release in a folder, and wait until it is ready.
start() {
  ln -s -f -n "$1" "$link.new"
  mv -T "$link.new" "$link"
  $restart &&
    curl --silent --fail --output /dev/null --max-time 2 --retry "${PATIENCE:-60}" --retry-delay 1 --retry-all-errors "$ready"
}

umask 077
mkdir "$backup"
case $DATABASE_URL in
  sqlite:///*) sqlite3 "${DATABASE_URL#sqlite:///}" ".backup '$backup/concord.db'" ;;
  *) pg_dump --format=custom --file="$backup/concord.dump" "$DATABASE_URL" ;;
esac
# The old release serves meanwhile. If this fails, it continues to serve.
"$new/bin/concord" migrate
"$new/bin/concord" check
if start "$new"; then
  echo "Upgraded from $old to $new."
  exit
fi
echo "$new did not get ready. Returning to $old, which works with the new schema." >&2
start "$old" || echo "$old did not get ready either: restore $backup, see docs/operating.md." >&2
exit 1
