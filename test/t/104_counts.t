# What a run says of itself is exact, and what did not change is not touched.
#
# - Inserted, updated, deleted, unchanged and rejected rows are counted
#   exactly, also where two workers read the listing, and where it holds records
#   of other organizations.
# - api_calls, retries and bytes_received are what the simulator counted.
# - Records that cannot be mapped are skipped, counted and kept with the reason;
#   all others arrive, and what is stored of a rejected one stays.  Once it can
#   be mapped the reason goes.
# - A sync without news writes no row version and no lock, and hardly any WAL.
# - It compares in the index alone where pages are all visible, and finds what
#   has changed on those that are not.
# - Each finished run sends one notification, a JSON document.
use strict;
use warnings;

use JSON::PP ();
use PfaTest;
use Test::More;

my $bad = 3;
my $sim = simulator('--orgs', 'RIO:6000,RIO2:200,RIOX:77,LIMA:400', '--seed', 21, '--bad', $bad);
my $node = new_server('counts', conf => "autovacuum = off\ncheckpoint_timeout = 1h\n");

add_source($node, 'postgres', $sim, 'pems', "page_size '500'");

my $counts = "status || ' ' || mode || ' seen ' || rows_seen || ' total ' || rows_total || ' ins ' || rows_inserted "
  . "|| ' upd ' || rows_updated || ' del ' || rows_deleted || ' same ' || rows_unchanged || ' rej ' || rows_rejected";

sub sync
{
	my ($org, $mode) = @_;
	run_sync($node, 'postgres', $org, $mode // 'auto');
	return last_run($node, 'postgres', $org, $counts);
}

# ---- first sync ----

# No page is read before the second worker is there.
sim($sim, 'fault?kind=hang&after=1000');
$node->safe_psql('postgres', "SELECT pfa_add_organization('RIO', 'pems', sync_interval => '7 days')");
ok(wait_for($node, 'postgres', "SELECT count(*) = 2 FROM pg_stat_activity
	WHERE application_name = 'pfa_vanguard sync RIO' AND wait_event_type = 'Extension'"), 'a second worker comes');
sim($sim, 'clear');
wait_sync($node, 'postgres');
is(last_run($node, 'postgres', 'RIO', $counts),
	'completed full seen 6000 total 6000 ins 5997 upd 0 del 0 same 0 rej 3', 'first sync, by two workers');
my ($calls, $mine) = split /\|/, last_run($node, 'postgres', 'RIO', 'api_calls, bytes_received');
my $stats = sim_json($sim, 'stats');
is($calls, $stats->{requests}{data}, 'api_calls are the requests that were made');
cmp_ok($mine, '>=', $stats->{bytes}, 'bytes_received holds all bodies');
cmp_ok($mine, '<', 1.1 * $stats->{bytes}, 'and little else');
cmp_ok($stats->{in_flight_max}, '>', 2, 'two workers were at it');
compare($node, 'postgres', $sim, 'RIO', 'first sync');

my ($times) = last_run($node, 'postgres', 'RIO', q{requested_at <= started_at AND started_at < finished_at
	AND finished_at <= now() AND error IS NULL AND direction = 'read' AND attempt = 1 AND worker_pid IS NULL});
is($times, 't', 'the other columns of the run make sense');

# ---- rejects ----

is(value($node, 'postgres', "SELECT string_agg(pfa_id, ' ' ORDER BY pfa_id) FROM pfa_rejected_record
	WHERE organization_id = 'RIO'"),
	join(' ', sort(sim($sim, 'rejects?org=RIO') =~ /"pfaId":"([^"]+)"/g)), 'rejected records are kept');
my $reasons = value($node, 'postgres', "SELECT string_agg(DISTINCT reason, '; ' ORDER BY reason) FROM pfa_rejected_record");
like($reasons, qr/"pfs_f_rental": "12.5 per day" .*; .*"pfs_f_startdate": "2025-02-31" /, 'with field, value and reason');

add_organizations($node, 'postgres', 'pems', qw(RIO2 RIOX LIMA));
is(last_run($node, 'postgres', $_->[0], $counts),
	"completed full seen $_->[1] total $_->[1] ins " . ($_->[1] - 3) . " upd 0 del 0 same 0 rej 3", "$_->[0]: first sync")
  for [ RIO2 => 200 ], [ RIOX => 77 ], [ LIMA => 400 ];

# a stored record that can no longer be mapped stays as it was; then it is fine again
my $before = value($node, 'postgres', "SELECT data FROM pfa_mirror WHERE organization_id = 'LIMA' AND pfa_id = 'PFA-000101'");
sim($sim, 'fault?kind=raw&org=LIMA&row=100&field=pfs_p_startdate&text="13/13/2025"');
is(sync('LIMA'), 'completed full seen 400 total 400 ins 0 upd 0 del 0 same 396 rej 4', 'one more is rejected');
is(value($node, 'postgres', "SELECT data FROM pfa_mirror WHERE organization_id = 'LIMA' AND pfa_id = 'PFA-000101'"),
	$before, 'and stays as it was');
like(value($node, 'postgres', "SELECT reason FROM pfa_rejected_record WHERE organization_id = 'LIMA' AND pfa_id = 'PFA-000101'"),
	qr/pfs_p_startdate/, 'with a reason');
sim($sim, 'clear');
is(sync('LIMA'), 'completed full seen 400 total 400 ins 0 upd 0 del 0 same 397 rej 3', 'the next sync can map it');
is(value($node, 'postgres', "SELECT count(*) FROM pfa_rejected_record WHERE organization_id = 'LIMA'"), 3,
	'and its reason is gone');

# ---- exactness ----

sim($sim, 'change?org=RIO&count=123');
sim($sim, 'insert?org=RIO&count=11&scattered=1');
sim($sim, 'insert?org=RIO&count=6');
# not one of those that cannot be mapped, which are the first
sim($sim, sprintf 'delete?org=RIO&id=PFA-%06d', $_) for map { 50 + 731 * $_ } 0 .. 7;
my $run = sync('RIO');
my ($updated) = $run =~ /upd (\d+)/;
cmp_ok($updated, '>=', 123 - $bad - 8, 'changed records are updated');
is($run, "completed full seen 6009 total 6009 ins 17 upd $updated del 8 same " . (6009 - 17 - $updated - 3) . ' rej 3',
	'changes are counted exactly');
is(value($node, 'postgres', "SELECT count(*) FROM pfa_mirror WHERE organization_id = 'RIO' AND version > 1"),
	$updated, 'and each update is one new version');
compare($node, 'postgres', $sim, 'RIO', 'after changes');

# ---- retries ----

sim($sim, 'stats?reset=1');
sim($sim, 'fault?kind=status&code=503&count=2&skip=1&org=RIO2');
sim($sim, 'fault?kind=cut&count=1&org=RIO2');
is(sync('RIO2'), 'completed full seen 200 total 200 ins 0 upd 0 del 0 same 197 rej 3', 'a sync with retries');
is(last_run($node, 'postgres', 'RIO2', 'retries'), 3, 'counts them');
is(last_run($node, 'postgres', 'RIO2', 'api_calls'), sim_json($sim, 'stats')->{requests}{data}, 'and every request');
sim($sim, 'clear');

# ---- no news, no trace ----

# the views are not refreshed meanwhile
wait_for($node, 'postgres', 'SELECT NOT EXISTS (SELECT FROM pfa_mv_change)');
$node->safe_psql('postgres', 'VACUUM pfa_mirror; CHECKPOINT');
my $trace = mirror_trace($node, 'postgres');
my $lsn = value($node, 'postgres', 'SELECT pg_current_wal_insert_lsn()');
is(sync('RIO'), 'completed full seen 6009 total 6009 ins 0 upd 0 del 0 same 6006 rej 3', 'nothing has changed');
cmp_ok(value($node, 'postgres', "SELECT pg_current_wal_insert_lsn() - '$lsn'"), '<', 256 * 1024,
	'that takes little WAL after a checkpoint');
$lsn = value($node, 'postgres', 'SELECT pg_current_wal_insert_lsn()');
sync('RIO');
cmp_ok(value($node, 'postgres', "SELECT pg_current_wal_insert_lsn() - '$lsn'"), '<', 64 * 1024,
	'and less without full page images');
is(mirror_trace($node, 'postgres'), $trace, 'no row version and no row lock');
sim($sim, 'set?shape=named&alias_case=upper&dates=mixed&numbers=thousands');
is(sync('RIO'), 'completed full seen 6009 total 6009 ins 0 upd 0 del 0 same 6006 rej 3', 'nor has anything in another shape');
is(mirror_trace($node, 'postgres'), $trace, 'no row version and no row lock then');
sim($sim, 'set?shape=positional&alias_case=lower&dates=iso&numbers=plain');

# ---- rows are not read to see that they are the same ----

my $row_blocks = q{SELECT coalesce(heap_blks_hit, 0) + coalesce(heap_blks_read, 0)
	FROM pg_statio_user_tables WHERE relname = 'pfa_mirror'};
my $row_pages = value($node, 'postgres', q{SELECT pg_relation_size('pfa_mirror') / 8192});

# Counts arrive with a delay, at the latest when the worker has gone.
sub row_blocks
{
	wait_for($node, 'postgres', "SELECT count(*) = 0 FROM pg_stat_activity WHERE application_name LIKE 'pfa_vanguard sync%'");
	return value($node, 'postgres', $row_blocks);
}

$node->psql('postgres', 'VACUUM pfa_mirror; SELECT pg_stat_force_next_flush()');
$before = row_blocks();
is(sync('RIO'), 'completed full seen 6009 total 6009 ins 0 upd 0 del 0 same 6006 rej 3', 'nothing has changed again');
cmp_ok(row_blocks() - $before, '<', $row_pages / 10, 'an unchanged record is compared in the index');
for my $round (1 .. 3)
{
	sim($sim, sprintf 'change?org=RIO&id=PFA-%06d&field=description&value=round%d', 20 + 97 * $_, $round) for 0 .. 60;
	is(sync('RIO'), 'completed full seen 6009 total 6009 ins 0 upd 61 del 0 same 5945 rej 3',
		"changes are found, round $round");
	compare($node, 'postgres', $sim, 'RIO', "round $round");
}
$node->safe_psql('postgres', q{
	ALTER TABLE pfa_mirror DROP CONSTRAINT pfa_mirror_pkey;
	ALTER TABLE pfa_mirror ADD PRIMARY KEY (organization_id, pfa_id)});
sim($sim, 'change?org=RIO&id=PFA-000020&field=description&value=plain');
is(sync('RIO'), 'completed full seen 6009 total 6009 ins 0 upd 1 del 0 same 6005 rej 3', 'also with a plain primary key');

# ---- notifications ----

# psql shows what it was sent when its next command ends.
sub notifications
{
	my ($org, $mode) = @_;
	my $out = $node->safe_psql('postgres', "LISTEN pfa_sync;
		SELECT pfa_sync_now('$org', '$mode') AS run \\gset
		SELECT pfa_sync_wait(:run, '1 minute') \\g /dev/null
		SELECT 1 \\g /dev/null
		SELECT :run");
	my ($id) = $out =~ /^(\d+)$/m;
	return ($id, map { JSON::PP::decode_json($_) }
		  $out =~ /Asynchronous notification "pfa_sync" with payload "(.*)" received/g);
}

sim($sim, 'change?org=LIMA&count=5');
my ($id, @told) = notifications('LIMA', 'full');
is(scalar @told, 1, 'one notification a run');
$told[0]{rows_updated} += 0;
my ($lima_updated) = last_run($node, 'postgres', 'LIMA', 'rows_updated');
is_deeply($told[0], { run_id => $id, organization_id => 'LIMA', status => 'completed', mode => 'full',
		rows_total => 400, rows_seen => 400, rows_inserted => 0, rows_updated => $lima_updated, rows_deleted => 0,
		rows_unchanged => 397 - $lima_updated, rows_rejected => 3, error => undef }, 'with the run\'s figures');

sim($sim, 'fault?kind=status&code=404&org=LIMA');
($id, @told) = notifications('LIMA', 'full');
is("@{[map { $_->{run_id} . $_->{status} } @told]}", "${id}failed", 'a failed run notifies too');
like($told[0]{error}, qr/404/, 'with its error');
sim($sim, 'clear');

done_testing();
