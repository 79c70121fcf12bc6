#!/bin/sh
# Upgrades Concord to a release in a folder of its own, and returns to the old one if that fails:
#
#   deploy/upgrade.sh /opt/concord-0.3.0 /var/backups/concord-0.3.0
#
# The script creates the second folder for a backup of the database. It needs the settings of the service in its
# environment.
set -eu
new=$(readlink -e -v "$1")
backup=$2
# A link to the folder of the release in use, a command that restarts all processes (concord-worker.service restarts with
# concord.service), and a URL that must return no error within about PATIENCE seconds.
link=${CONCORD:-/opt/concord}
restart=${RESTART:-systemctl restart concord}
ready=${READY:-http://127.0.0.1:8080/health/ready}
old=$(readlink -v "$link")
database=${DATABASE_URL:-}
[ "$database" ] || database=$(cat "$DATABASE_URL_FILE")

# start FOLDER: restart with the release in a folder, and wait until it is ready.
start() {
  ln -s -f -T "$1" "$link.new" &&
    mv -T "$link.new" "$link" &&
    $restart &&
    curl --silent --fail --output /dev/null --max-time 2 --retry "${PATIENCE:-60}" --retry-delay 1 --retry-all-errors "$ready"
}

umask 077
mkdir "$backup"
case $database in
  sqlite:///*) sqlite3 "${database#sqlite:///}" ".backup '$backup/concord.db'" ;;
  *) pg_dump --format=custom --file="$backup/concord.dump" "$database" ;;
esac
# The old release serves meanwhile. If this fails, it continues to serve.
"$new/bin/concord" migrate
"$new/bin/concord" check
if start "$new"; then
  echo "Upgraded from $old to $new."
  exit
fi
echo "$new did not become ready. Returning to $old, which works with the new schema." >&2
start "$old" || echo "$old did not become ready either. Restore $backup as docs/operating.md describes." >&2
exit 1
