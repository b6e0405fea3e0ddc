# The schedule of one organization:
#  - a request starts at once, rolled back it never was; of many requests at the
#    same time there is one run, and never two of one organization at a time
#  - completed, the next sync is due an interval after the last due time; after
#    the interval it comes by itself; late, it comes at once and the beat is kept
#  - paused, it is not synced, not even when due; resumed, at once
#  - after failures it backs off, longer each time, says so, and comes back by
#    itself; refused credentials wait longer, until they are changed
#  - a clock that is set back by a day, or an interval made shorter, does not
#    put it off; set forward, there is one sync and not many
#  - pfa_vanguard.enabled stops and starts within a second by reload
#  - pfa_vanguard.max_concurrent_syncs takes effect by reload
use strict;
use warnings;
use PfaTest;
use Test::More;
use Time::HiRes qw(time usleep);

my $node = new_server('main');
my $db = 'postgres';
my $sim = simulator('--orgs', 'RIO:500,S*6:300', '--seed', '37');
my $session = session($node, $db);

add_source($node, $db, $sim, 'pems', q{max_retries '0', connect_timeout '2'});
$node->safe_psql($db, q{SELECT pfa_add_organization('RIO', 'pems', NULL, '15 minutes')});

sub sql
{
	return $session->run($_[0]);
}

# Poll in the open session.
sub until_is
{
	my ($query, $expected, $seconds) = @_;
	my $end = time + $seconds - stalled();
	my $answer;
	do
	{
		return 1 if ($answer = sql($query)) eq $expected;
		usleep(20_000);
	} while (time - stalled() < $end);
	diag("got $answer");
	return 0;
}

my $runs = q{SELECT count(*) FROM pfa_sync_run};
my $done = q{SELECT count(*) FROM pfa_sync_run WHERE status IN ('completed', 'failed', 'cancelled')};

# Make RIO due in so many seconds; the scheduler is told.  Gives the time.
sub due
{
	my ($when) = @_;
	my $due = sql("UPDATE pfa_sync_state SET next_sync_at = now() + interval '$when'
		WHERE organization_id = 'RIO' RETURNING next_sync_at");
	sql(q{SELECT pfa_resume_organization('RIO')});
	return $due;
}

ok(until_is($done, '1', 10), 'an organization that is added is synced at once');

# ---- requests ----

my $seconds = timed(sub {
	my $run = sql(q{SELECT pfa_sync_now('RIO')});
	until_is("SELECT status FROM pfa_sync_run WHERE run_id = $run", 'completed', 5) });
cmp_ok($seconds, '<', 2, 'a request is served at once');
my $before = sql($runs);
sql(q{BEGIN; SELECT pfa_sync_now('RIO'); ROLLBACK});
is(sql($runs), $before, 'rolled back, it never was');

sim($sim, 'fault?kind=hang');
my @sessions = map { session($node, $db) } 1 .. 8;
$_->run('SELECT 1') for @sessions;
$_->start(q{SELECT pfa_sync_now('RIO', 'full')}) for @sessions;
my %ids = map { $_->result => 1 } @sessions;
is(scalar keys %ids, 1, 'requests at the same time get one run');
sim($sim, 'clear');
ok(synced($node, $db), 'which completes');
is(sql($runs), $before + 1, 'and there was one');
$_->close for @sessions;

# ---- interval ----

$before = sql($done);
is(sql(q{SELECT next_sync_at BETWEEN now() + interval '14 minutes' AND now() + interval '15 minutes'
	FROM pfa_sync_state}), 't', 'the next sync is due in 15 minutes');
my $due = due('300 milliseconds');
ok(until_is($done, $before + 1, 5), 'due, it is synced by itself');
is(sql("SELECT next_sync_at - '$due'::timestamptz FROM pfa_sync_state"), '00:15:00',
	'and the next one is due an interval after that');
$due = due('-5 minutes');
ok(until_is($done, $before + 2, 5), 'late, it is synced at once');
is(sql("SELECT next_sync_at - '$due'::timestamptz FROM pfa_sync_state"), '00:15:00',
	'and the beat is kept');
due('-7 days');
ok(until_is($done, $before + 3, 5), 'late by a week, it is synced once');
is(sql(q{SELECT next_sync_at BETWEEN now() + interval '14 minutes' AND now() + interval '15 minutes'
	FROM pfa_sync_state}), 't', 'and then in 15 minutes');
due('1 day');
ok(until_is($done, $before + 4, 5), 'the clock was set back by a day: it is synced at once');
due('3 hours');
ok(until_is($done, $before + 5, 5), 'a due time that no interval explains');
due('15 minutes');
is(sql(q{SELECT state, reason, next_sync_at IS NOT NULL FROM pfa_sync_status}),
	'idle|waiting until it is due|t', 'the status says what it waits for');
is(sql($done), $before + 5, 'not before it is due');

# ---- pause ----

sql(q{SELECT pfa_pause_organization('RIO')});
sql(q{UPDATE pfa_sync_state SET next_sync_at = now() - interval '1 hour'});
is(sql(q{SELECT state, reason FROM pfa_sync_status}), 'paused|paused by pfa_pause_organization()', 'paused');
like(sql(q{SELECT pfa_sync_now('RIO')}), qr/is paused/, 'not synced on request');
is(sql(q{SELECT count(*) FROM pfa_sync_now()}), '0', 'nor with all');
my ($pid) = worker_pids($node, 'pfa_vanguard scheduler%');
sql("SELECT pg_terminate_backend($pid, 5000)");
ok(until_is("SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'pfa_vanguard scheduler%'
	AND pid <> $pid AND state = 'idle'", '1', 8), 'the scheduler has looked');
is(sql($done), $before + 5, 'and not synced it, though it is due');
$seconds = timed(sub {
	sql(q{SELECT pfa_resume_organization('RIO')});
	until_is($done, $before + 6, 5) });
cmp_ok($seconds, '<', 2, 'resumed, it is synced at once');

# ---- failures ----

sim($sim, 'fault?kind=status&code=503');
$before = sql($done);
my $last = 0;
for my $failures (1 .. 3)
{
	sql(q{SELECT pfa_sync_now('RIO')}) if $failures == 1;
	due('0 s') if $failures > 1;
	ok(until_is($done, $before + $failures, 10), "failure $failures");
	my $wait = sql(q{SELECT extract(epoch FROM next_sync_at - (SELECT max(finished_at) FROM pfa_sync_run))
		FROM pfa_sync_state});
	my $expected = 30 * 2**($failures - 1);
	cmp_ok($wait, '>', 0.75 * $expected, 'backs off');
	cmp_ok($wait, '<', 1.25 * $expected, "about $expected s");
}
is(sql(q{SELECT state, reason, last_error LIKE '%503%' FROM pfa_sync_status}),
	'backoff|the last 3 syncs failed|t', 'and says why');
sim($sim, 'clear');
due('500 ms');
ok(until_is($done, $before + 4, 10), 'the back-off ends by itself');
is(sql(q{SELECT state, last_error IS NULL FROM pfa_sync_status}), 'idle|t', 'and all is well');

# ---- credentials ----

sim($sim, 'set?password=other');
sql(q{SELECT pfa_sync_now('RIO')});
ok(until_is($done, $before + 5, 10), 'refused credentials');
is(sql(q{SELECT next_sync_at > now() + interval '50 minutes', state FROM pfa_sync_status}),
	't|backoff', 'are not tried again soon');
$seconds = timed(sub {
	sql(q{SET client_min_messages = warning;
		ALTER USER MAPPING FOR CURRENT_USER SERVER pems OPTIONS (SET password 'other')});
	until_is($done, $before + 6, 5) });
cmp_ok($seconds, '<', 2, 'but at once when they are changed');
is(sql(q{SELECT state, last_error IS NULL FROM pfa_sync_status}), 'idle|t', 'and all is well');

# ---- the switch ----

setting($node, 'pfa_vanguard.enabled', 'off');
ok(until_is(q{SELECT state, reason FROM pfa_sync_status}, 'paused|switched off by pfa_vanguard.enabled', 10),
	'switched off');
$before = sql($done);
sim($sim, 'stats?reset=1');
due('0 s');
sql(q{SELECT pfa_sync_now('RIO')});
($pid) = worker_pids($node, 'pfa_vanguard scheduler%');
sql("SELECT pg_terminate_backend($pid, 5000)");
ok(until_is("SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'pfa_vanguard scheduler%'
	AND pid <> $pid AND state = 'idle'", '1', 8), 'the scheduler has looked');
like(sim($sim, 'stats'), qr/"data":0,/, 'nothing is asked of PEMS');
is(sql(q{SELECT state, reason FROM pfa_sync_status}), 'queued|switched off by pfa_vanguard.enabled',
	'the request waits');
$seconds = timed(sub {
	setting($node, 'pfa_vanguard.enabled', 'on');
	until_is($done, $before + 1, 5) });
cmp_ok($seconds, '<', 2, 'switched on, it is served at once');

# ---- max_concurrent_syncs ----

my $working = q{SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'pfa_vanguard sync%'};
sim($sim, 'fault?kind=hang');
setting($node, 'pfa_vanguard.max_concurrent_syncs', 4);
sql(q{SELECT pfa_add_organization('S000' || i, 'pems', NULL, '1 day') FROM generate_series(1, 6) i});
ok(until_is($working, '4', 10), 'four at a time');
is(sql(q{SELECT count(*) FROM pfa_sync_status WHERE state = 'queued' AND reason = 'waiting for a worker slot'}),
	'2', 'the others say what they wait for');
setting($node, 'pfa_vanguard.max_concurrent_syncs', 6);
ok(until_is($working, '6', 10), 'raised: six');
setting($node, 'pfa_vanguard.max_concurrent_syncs', 1);
sim($sim, 'clear');
ok(until_is($working, '0', 10), 'they end');
sim($sim, 'fault?kind=latency&ms=50');
sql('SELECT pfa_sync_now()');
my ($most, $end) = (0, time + 20);
while (time < $end && sql(q{SELECT count(*) FROM pfa_sync_run WHERE status IN ('queued', 'running')}) > 0)
{
	my $n = sql(q{SELECT count(*) FROM pfa_sync_run WHERE status = 'running'});
	$most = $n if $n > $most;
}
is($most, 1, 'lowered: one at a time');
is(sql(q{SELECT count(*) FROM pfa_sync_run WHERE status NOT IN ('completed', 'failed')}), '0', 'all have ended');

is(sql(q{SELECT count(*) FROM pfa_sync_run a JOIN pfa_sync_run b USING (organization_id)
	WHERE a.run_id < b.run_id AND a.finished_at > b.started_at}), '0',
	'there never were two runs of one organization at a time');
is(log_lines($node, '(PANIC|terminated by signal|TRAP)'), 0, 'nothing crashed');
$session->close;
$node->stop;
done_testing();
