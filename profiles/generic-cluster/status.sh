#!/bin/sh
# status.sh ID: print running, success or failed.
end=results/logs/cluster/$1.status
# A job that ends between the two looks has written its end by the third.
[ -s "$end" ] || if kill -0 "$1" 2>/dev/null; then echo running; exit; fi
if [ "$(cat "$end" 2>/dev/null)" = 0 ]; then echo success; else echo failed; fi
