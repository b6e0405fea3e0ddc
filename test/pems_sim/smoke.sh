#!/bin/bash
# Starts the simulator, asks for every feature with curl, stops it.
# Usage: smoke.sh [path of pems_sim]
set -u
sim=${1:-$(dirname "$0")/pems_sim}
dir=$(mktemp -d)
failed=0
tests=0
pid=

cleanup() {
	[ -n "$pid" ] && kill "$pid" 2>/dev/null
	rm -rf "$dir"
}
trap cleanup EXIT

# start SCHEME [options]
start() {
	local scheme=$1
	shift
	rm -f "$dir/port"
	"$sim" --port 0 --port-file "$dir/port" --pid-file "$dir/pid" \
		--orgs RIO:2500,RIO2:50,LIMA:1200 --seed 7 --user u --password p \
		--oddities --bad 2 "$@" >"$dir/log" 2>&1 &
	pid=$!
	for _ in $(seq 100); do
		[ -f "$dir/port" ] && break
		sleep 0.1
	done
	base=$scheme://127.0.0.1:$(cat "$dir/port")
}

stop() {
	kill "$pid"
	wait "$pid" 2>/dev/null
	status=$?
	pid=
	same "nothing reported" "$(grep -vc listening "$dir/log")" 0
}

# check NAME EXTENDED-REGEXP: of what is in $dir/out
check() {
	tests=$((tests + 1))
	if grep -aqE -- "$2" "$dir/out"; then
		echo "ok $tests - $1"
	else
		failed=$((failed + 1))
		echo "not ok $tests - $1: no $2 in $(head -c 300 "$dir/out")"
	fi
}

# same NAME VALUE EXTENDED-REGEXP: of the whole value
same() {
	tests=$((tests + 1))
	if [[ $2 =~ ^($3)$ ]]; then
		echo "ok $tests - $1"
	else
		failed=$((failed + 1))
		echo "not ok $tests - $1: got $2, expected $3"
	fi
}

admin() { curl -sk "$base/admin/$1" -o "$dir/out"; }

# grid ORG OFFSET ROWS [TYPE [more filters as JSON, each with a comma before]]
grid() {
	local request
	request='{"GRID":{"GRID_NAME":"CUPFAG","GRID_ID":"100541",
		"NUMBER_OF_ROWS_FIRST_RETURNED":'$3',"CURSOR_POSITION":'$2'},
		"ADDON_SORT":{"ALIAS_NAME":"pfs_id","TYPE":"ASC"},
		"MULTIADDON_FILTERS":{"MADDON_FILTER":[{"ALIAS_NAME":"pfs_a_org",
		"OPERATOR":"BEGINS","VALUE":"'$1'","JOINER":"AND","SEQNUM":1}'${5:-}']},
		"REQUEST_TYPE":"LIST.'${4:-DATA_ONLY}'.STORED"}'
	code=$(curl -sk -m "${wait:-10}" -u "${auth:-u:p}" -d "$request" \
		-H 'Content-Type: application/json' ${curl_options:-} \
		-D "$dir/headers" -o "$dir/out" -w '%{http_code}' \
		"$base/axis/restservices/griddata")
	curl_status=$?
}

filter() {
	echo ',{"ALIAS_NAME":"'"$1"'","OPERATOR":"'"$2"'","VALUE":"'"$3"'","JOINER":"AND","SEQNUM":2}'
}

total() { grep -aoE '"TOTALROWS":[0-9]+' "$dir/out" | cut -d: -f2; }
rows() { grep -aoE '"(D|CELL)":\[' "$dir/out" | wc -l; }

# screen ACTION ID [more pairs, each with a comma before]
screen() {
	curl -s -u u:p -o "$dir/out" -d '{"USERDEFINEDSCREENNAME":"CUPFA2",
		"USERDEFINEDSERVICEACTION":"'"$1"'",
		"USERDEFINEDSCREENFIELDVALUELIST":{"USERDEFINEDSCREENFIELDVALUEPAIR":[
		{"USERDEFINEDSCREENFIELDNAME":"PFS_ID","USERDEFINEDSCREENFIELDVALUE":{"TEXTDATA":"'"$2"'"}},
		{"USERDEFINEDSCREENFIELDNAME":"PFS_A_ORG","USERDEFINEDSCREENFIELDVALUE":{"TEXTDATA":"RIO"}}'"${3:-}"']}}' \
		"$base/axis/restservices/userdefinedscreenservices"
}

start http

# reading
auth=u:wrong grid RIO 0 10
same "wrong password" "$code" 401
grid RIO 0 1000
same "BEGINS is a prefix match" "$(total)" 2550
same "rows of a page" "$(rows)" 1000
check "more rows" '"MORERECORDPRESENT":"\+"'
check "fields with positional rows" '"FIELDS":\{"FIELD":\[\{"aliasnum":1,"name":"pfs_id"'
grid RIO 2500 1000
same "last page" "$(rows)" 50
check "no more rows" '"MORERECORDPRESENT":"-"'
grid RIO 0 0 COUNT
same "count" "$(total)" 2550
grid RIO 0 0 HEAD_ONLY
check "head" '"name":"pfs_lastmodified"'
grid LIMA 0 1000 DATA_ONLY "$(filter PFS_ID '>=' PFA-001191)"
same "from an id on" "$(rows)" 10
grid LIMA 0 1000 DATA_ONLY "$(filter pfs_id '>' PFA-001191)"
same "after an id" "$(rows)" 9
grid LIMA 0 1000 DATA_ONLY "$(filter pfs_f_source = Purchase)"
same "equality" "$((($(rows) > 100)))" 1
grid LIMA 0 2000 DATA_ONLY "$(filter pfs_f_rental '<' 5,000.00)"
same "numbers" "$((($(rows) > 20)))" 1
grid LIMA 0 2000 DATA_ONLY "$(filter description CONTAINS crane)"
same "CONTAINS" "$((($(rows) > 20)))" 1
grid LIMA 0 10 DATA_ONLY "$(filter no_such = 1)"
check "unknown field" '"Result":null,"ErrorAlert"'

# shapes
for pair in 'shape=named "CELL":\[\{"ALIAS_NAME":"pfs_id"' \
	'alias_case=upper "ALIAS_NAME":"PFS_ID"' \
	'shape=positional&fields=head "GRID":\{"METADATA":\{[^}]*\},"TOTALROWS":[0-9]+,"DATA"' \
	'fields=inline&grid=grid1 "GRID1":' 'grid=top ^\{"GRID":' \
	'grid=grid&total=string "TOTALROWS":"2550"' 'total=rowcount "ROWCOUNT":"2550"' \
	'total=total-count "TOTAL-COUNT":2550' 'total=both&dates=dmy -JAN-2025' \
	'dates=mdy 01/[0-9]+/2025"' 'dates=iso&numbers=thousands ,[0-9]{3}\.[0-9][0-9]"' \
	'numbers=plain&bools=minus1 "-1"' 'bools=yn&alias_case=lower "name":"pfs_id"'; do
	admin "set?${pair%% *}"
	grid RIO 0 200
	check "set ${pair%% *}" "${pair#* }"
done
admin "set?single=object"
grid LIMA 5 1
check "one row as an object" '"ROW":\{'
admin "set?single=array&empty=null"
grid NONE 0 10
check "empty as null" '"DATA":null'
admin "set?empty=array&fields=header"
grid LIMA 0 0 HEAD_ONLY
check "older header" '"COLUMN":\[\{"INDEX":1,"NAME":"pfs_id"'
admin "set?fields=inline&gzip=on"
curl_options=--compressed grid RIO 0 100
same "gzip rows" "$(rows)" 100
same "gzip header" "$(grep -ci 'content-encoding: gzip' "$dir/headers")" 1
admin "set?gzip=off&page_cap=20"
grid RIO 0 100
same "page cap" "$(rows)" 20
admin "set?page_cap=10000&delta=off"
grid RIO 0 10 DATA_ONLY "$(filter pfs_lastmodified '>=' 2025-01-01)"
check "delta switched off" '"Result":null'
admin "set?delta=on&drop=pfs_f_dor&add=pfs_new"
grid RIO 0 10
check "added column" '"name":"pfs_new"'
same "dropped column" "$(grep -c pfs_f_dor "$dir/out")" 0
admin "set?drop=&add="

# faults
fault() {
	admin "fault?$1"
	check "fault $1 set" '"fault":'
	wait=2 grid RIO 0 100
}
clear() { admin clear; }
fault 'kind=status&code=429&retry_after=9'
same "status" "$code" 429
same "retry-after" "$(grep -ci 'retry-after: 9' "$dir/headers")" 1
clear
fault 'kind=status&code=503&retry_after_date=60'
same "retry-after as a date" "$(grep -c 'Retry-After: .* GMT' "$dir/headers")" 1
clear
fault 'kind=cut&bytes=500'
same "cut" "$curl_status" '18|56'
clear
fault 'kind=alert&text=Boom'
check "alert" '"Message":"Boom"'
clear
fault 'kind=html'
check "html" 'DOCTYPE'
clear
fault 'kind=empty'
same "empty" "$(wc -c <"$dir/out")" 0
clear
fault 'kind=truncate&bytes=777'
same "truncate" "$(wc -c <"$dir/out")" 777
clear
fault 'kind=wrong_total&n=42'
same "wrong total" "$(total)" 42
clear
fault 'kind=hang'
same "hang" "$curl_status" 28
clear
fault 'kind=hang&bytes=5000'
same "hang in mid-body" "$curl_status" 28
clear
fault 'kind=drip&n=1000&ms=100'
same "drip" "$curl_status" 28
clear
fault 'kind=endless'
same "endless" "$curl_status" 28
rm -f "$dir/out"
clear
fault 'kind=redirect&code=307'
same "redirect" "$code" 307
clear
fault 'kind=short_pages&rows=7'
same "short pages" "$(rows)" 7
clear
fault 'kind=more'
check "more is falsified" '"MORERECORDPRESENT":"-"'
clear
fault 'kind=dup&row=4'
same "a row twice" "$(rows)" 101
clear
fault 'kind=close'
same "close" "$(grep -ci 'connection: close' "$dir/headers")" 1
clear
fault 'kind=reset'
same "reset" "$curl_status" '56|35'
clear
fault 'kind=raw&row=3&field=pfs_f_rental&text=1e400'
check "raw" ':1e400[,}]'
clear
fault 'kind=set&count=1&text=shape=named'
check "setting changed by a request" '"CELL":'
clear
admin 'set?shape=positional&hide=2'
grid LIMA 0 1000
same "hidden from us" "$(total)" 600
admin 'set?hide=0&reorder=on'
grid LIMA 0 1
check "other order" '"aliasnum":2,"name":"pfs_a_updatedby"'
admin 'set?reorder=off&keyset=off'
grid LIMA 0 10 DATA_ONLY "$(filter pfs_id '>' PFA-001191)"
check "keyset switched off" '"Result":null'
admin 'set?keyset=on'
fault 'kind=hidden&n=10'
same "hidden rows" "$((($(rows) < 100)))" 1
clear
fault 'kind=big_record&bytes=3000000'
same "big record" "$((($(wc -c <"$dir/out") > 3000000)))" 1
clear
fault 'kind=nul'
check "nul" 'u0000'
clear
fault 'kind=surrogates'
check "surrogates" 'ud83d and'
clear
fault 'kind=deep&n=500'
check "deep" '\[{500}\]{500}'
clear
fault 'kind=quota&n=1'
grid RIO 0 1
same "quota" "$code" 429
clear
admin 'fault?kind=same_page'
grid LIMA 1000 10
check "same page" '"(value|VALUE)":"PFA-000001"'
clear
admin 'fault?kind=unsorted'
grid LIMA 0 3
same "unsorted" "$(grep -aoE 'PFA-[0-9]+' "$dir/out" | head -1)" PFA-000003
clear
admin 'fault?kind=ignore_filter'
grid LIMA 0 10 DATA_ONLY "$(filter pfs_id '>' PFA-001191)"
same "ignored filter" "$(total)" 1200
clear
admin 'fault?kind=mutate&inserts=5&deletes=0'
grid LIMA 500 10
same "mutate" "$(total)" 1205
clear
admin 'fault?kind=status&count=1&every=2&org=LIMA'
grid LIMA 0 1
same "every second: first" "$code" 200
grid LIMA 0 1
same "every second: second" "$code" 503
grid LIMA 0 1
grid LIMA 0 1
same "count used up" "$code" 200
clear
admin 'fault?kind=latency&ms=300'
grid RIO 0 1
admin 'log?n=1'
check "latency" '"ms":3[0-9][0-9]\.'
clear

# changes
admin 'canonical?org=RIO'
same "canonical leaves bad records out" "$(wc -l <"$dir/out")" 2498
check "canonical cost" '"planCost":-?[0-9]+\.[0-9][0-9]'
admin 'rejects?org=RIO'
same "rejects" "$(wc -l <"$dir/out")" 2
admin 'change?org=RIO&fraction=0.01'
check "change" '"changed":25'
grid RIO 0 1000 DATA_ONLY "$(filter pfs_lastmodified '>=' 2026-01-01T00:00:00)"
same "delta" "$(rows)" 25
admin 'insert?org=RIO&count=3'
check "insert" '"inserted":3'
admin 'delete?org=RIO&count=2'
check "delete" '"deleted":2'
admin 'change?org=RIO&id=PFA-000100&field=pfs_f_rental&value=1250.50'
admin 'canonical?org=RIO&id=PFA-000100'
check "change of one field" '"monthlyRate":1250.5,'

# writing
screen GET PFA-000200
check "screen get" '"USERDEFINEDSCREENFIELDNAME":"PFS_F_RATE"'
screen UPDATE PFA-000200 ',{"USERDEFINEDSCREENFIELDNAME":"PFS_F_RATE","USERDEFINEDSCREENFIELDVALUE":{"NUMERICDATA":{"VALUE":525000,"NUMOFDEC":2,"SIGN":"+"}}},
	{"USERDEFINEDSCREENFIELDNAME":"PFS_F_STARTDATE","USERDEFINEDSCREENFIELDVALUE":{"DATETIMEDATA":{"YEAR":1735689600000,"MONTH":3,"DAY":15}}}'
check "screen update" '"recordid":[0-9]+'
admin 'canonical?org=RIO&id=PFA-000200'
check "updated" '"monthlyRate":5250,.*"forecastStart":"2025-03-15"'
screen UPDATE PFA-nowhere
check "record not found" 'Record not found'
screen ADD PFA-9
check "screen add" '"recordid":1'
screen DELETE PFA-9
check "screen delete" '"recordid":2'
admin writes
same "write log" "$(wc -l <"$dir/out")" 3
admin stats
check "stats" '"requests":\{"data":[0-9]+.*"in_flight":'
stop
same "ends on SIGTERM" "$status" 0

# TLS
if command -v openssl >/dev/null; then
	openssl req -x509 -newkey rsa:2048 -nodes -keyout "$dir/key" \
		-out "$dir/cert" -days 2 -subj /CN=localhost 2>/dev/null
	start https --tls-cert "$dir/cert" --tls-key "$dir/key"
	grid RIO 0 1000
	same "rows over TLS" "$(rows)" 1000
	stop
fi

echo "1..$tests"
exit $((failed > 0))
