# History does not grow for ever (S2), with PFA_HISTORY (50000) old runs and as
# many events:
#  - what is older than pfa_vanguard.run_retention and event_retention goes, a
#    bounded number of rows at a time, through an index; the rest stays
#  - meanwhile requests are served
#  - unfinished runs stay, whatever their age; 0 keeps everything
#  - retentions of less than a day count; both take effect by reload
use strict;
use warnings;
use PfaTest;
use Test::More;
use Time::HiRes qw(time usleep);

my $n = $ENV{PFA_HISTORY} || 50000;
my $node = new_server('main');
my $db = 'postgres';
my $sim = simulator('--orgs', 'RIO:100', '--seed', '61');
my $session = session($node, $db);

add_source($node, $db, $sim);
setting($node, 'pfa_vanguard.run_retention', '0');
setting($node, 'pfa_vanguard.event_retention', '0');
$session->run(q{SELECT pfa_add_organization('RIO', 'pems', NULL, '1 day')});
ok(synced($node, $db), 'a first sync');
$session->run(qq{
	INSERT INTO pfa_sync_run (organization_id, mode, status, requested_at, started_at, finished_at)
		SELECT 'RIO', 'full', 'completed', t, t, t
		FROM (SELECT now() - interval '13 hours' - i * interval '1 second' AS t FROM generate_series(1, $n) i) s;
	INSERT INTO pfa_event_log (logged_at, level, component, code, message)
		SELECT now() - interval '13 hours' - i * interval '1 second', 'info', 'test', 'test', 'old'
		FROM generate_series(1, $n) i;
	INSERT INTO pfa_sync_run (organization_id, mode, status, requested_at, started_at, finished_at)
		SELECT 'RIO', 'full', 'failed', t, t, t
		FROM (SELECT now() - interval '11 hours' AS t FROM generate_series(1, 100) i) s;
	INSERT INTO pfa_organization (organization_id, pems_organization, server_name, owner, sync_interval, system_identifier, database_oid, paused)
		SELECT 'OLD', 'OLD', 'pems', current_user, '1 day', system_identifier, database_oid, true FROM pfa_organization;
	INSERT INTO pfa_sync_run (organization_id, mode, status, requested_at)
		VALUES ('OLD', 'full', 'queued', now() - interval '1 year');
	ANALYZE pfa_sync_run, pfa_event_log});
my $old = q{SELECT count(*) FROM pfa_sync_run WHERE finished_at < now() - interval '12 hours'};
my $events = q{SELECT count(*) FROM pfa_event_log WHERE logged_at < now() - interval '12 hours'};
my ($pid) = worker_pids($node, 'pfa_vanguard scheduler%');
$session->run("SELECT pg_terminate_backend($pid, 5000)");
is(run_sync($node, $db, 'RIO'), 'completed', 'the scheduler has looked');
is($session->run($old), $n, '0 keeps everything');

# ---- half a day ----

setting($node, 'pfa_vanguard.run_retention', '12 h');
setting($node, 'pfa_vanguard.event_retention', '720 min');
my ($steps, $largest, $left, $served, $end) = (0, 0, $n, 0, time + 120);
while ($left > 0 && time < $end)
{
	my $now = $session->run($old);
	$steps++ if $now < $left;
	$largest = $left - $now if $left - $now > $largest;
	$left = $now;
	if ($steps > 5 && !$served++)
	{
		my $seconds = timed(sub { is(run_sync($node, $db, 'RIO'), 'completed', 'a request while old runs are removed') });
		cmp_ok($seconds, '<', 3, 'is served at once');
		$left = $session->run($old);
	}
	usleep(5_000);
}
is($left, 0, 'old runs are gone');
cmp_ok($steps, '>', 5, "in steps ($steps seen)");
ok(wait_for($node, $db, $events, 30, '0'), 'old events too');
is($session->run(q{SELECT count(*) FROM pfa_sync_run WHERE status = 'failed'}), '100', 'younger runs stay');
is($session->run(q{SELECT count(*) FROM pfa_sync_run WHERE organization_id = 'OLD'}), '1', 'a queued run stays, whatever its age');
cmp_ok($session->run(q{SELECT count(*) FROM pfa_sync_run WHERE status = 'completed'}), '>=', 3, 'so do the latest');
unlike($session->run(q{EXPLAIN SELECT run_id FROM pfa_sync_run WHERE status NOT IN ('queued', 'running')
	AND finished_at < now() - interval '12 hours' ORDER BY finished_at LIMIT 1000}), qr/Seq Scan|Sort/,
	'they are found through an index');

setting($node, 'pfa_vanguard.run_retention', '10 h');
ok(wait_for($node, $db, q{SELECT count(*) FROM pfa_sync_run WHERE status = 'failed'}, 15, '0'),
	'a retention that is lowered takes effect by reload');
is(run_sync($node, $db, 'RIO'), 'completed', 'and syncs go on');
$session->close;
$node->stop;
done_testing();
