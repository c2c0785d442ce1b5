#!/bin/sh
# cancel.sh ID...: end jobs. Each id leads a session, so the whole group gets the signal.
for id in "$@"; do kill -s TERM -- "-$id" 2>/dev/null; done
exit 0
