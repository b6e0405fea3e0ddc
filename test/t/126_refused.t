# Nobody listens where PEMS should be (H15): at the start, and for hours
#  - syncs fail, say why, and back off, twice as long each time up to an hour
#  - health is degraded, and what was mirrored is served
#  - the log has a line a failed sync and no more: on average far less than one
#    a minute
#  - when PEMS is there again, syncs go on within a backoff step, by themselves
use strict;
use warnings;
use PfaTest;
use Test::More;

my $db = 'postgres';
my $node = new_server('main');
my $sim = simulator('--orgs', 'RIO:300', '--seed', '126');
my $port = $sim->{port};

sub stop_sim
{
	kill 'TERM', $sim->{pid};
	waitpid $sim->{pid}, 0;
}

add_source($node, $db, $sim, 'pems', "max_retries '0', connect_timeout '2'");
$node->safe_psql($db, "SELECT pfa_add_organization('RIO', 'pems')");
ok(synced($node, $db), 'a first sync');
my $first_page = value($node, $db, "SELECT pfa_get('RIO', page_size => 50)->'data'");

# ---- gone at the start of the server ----

$node->stop;
stop_sim();
$node->start;
my $offset = -s $node->logfile;

# Have the next sync be due now, as if the time had passed.
sub make_due
{
	$node->safe_psql($db, "UPDATE pfa_sync_state SET next_sync_at = now(); SELECT pfa_resume_organization('RIO')");
}

sub ended
{
	my ($n) = @_;
	return wait_for($node, $db, "SELECT count(*) = $n FROM pfa_sync_run WHERE finished_at IS NOT NULL");
}

# Seconds from the last failure to the next attempt.
sub backoff
{
	return value($node, $db, "SELECT extract(epoch FROM s.next_sync_at - r.finished_at)
		FROM pfa_sync_state s JOIN pfa_sync_run r USING (organization_id) ORDER BY run_id DESC LIMIT 1");
}

my ($failures, $hours) = (0, 0);
for my $expected (30, 60, 120, 240, 480, 960, 1920, 3600, 3600)
{
	make_due();
	$failures++;
	ok(ended(1 + $failures), "attempt $failures fails");
	my $seconds = backoff();
	cmp_ok($seconds, '>=', 0.79 * $expected, "attempt $failures: the next one after $seconds s");
	cmp_ok($seconds, '<=', 1.21 * $expected, "attempt $failures: and not much later");
	$hours += $seconds / 3600;
}
is(value($node, $db, "SELECT count(*) FROM pfa_sync_run WHERE status = 'failed' AND api_calls = 1 AND retries = 0"),
	$failures, 'one request each');
like(last_run($node, $db, 'RIO', 'error'),
	qr/could not connect to 127\.0\.0\.1 port $port: Connection refused/, 'the error says what is wrong');
is(value($node, $db, 'SELECT state, reason FROM pfa_sync_status'), "backoff|the last $failures syncs failed", 'the status too');
my $lines = log_lines($node, '(?:LOG|WARNING|ERROR|FATAL):  (?!statement:).*(?:PEMS|could not connect)', $offset);
cmp_ok($lines, '<=', $failures, sprintf 'log lines in %.1f hours: %d', $hours, $lines);
cmp_ok($lines, '>=', 1, 'but it is told');
ok(wait_for($node, $db, "SELECT pfa_health()->'checks'->'sync'->>'status'", 30, 'degraded'), 'health: syncs are degraded');
is(value($node, $db, "SELECT pfa_health()->>'status'"), 'degraded', 'health: degraded, not down');
is(value($node, $db, "SELECT pfa_get('RIO', page_size => 50)->'data'"), $first_page, 'old data is served');

# ---- and there again ----

$sim = simulator('--orgs', 'RIO:300', '--seed', '126', '--port', $port);
is($sim->{port}, $port, 'PEMS is there again');
sim($sim, 'change?org=RIO&count=5');
make_due();
ok(ended(2 + $failures), 'the next sync');
is(last_run($node, $db, 'RIO', 'status'), 'completed', 'completes');
compare($node, $db, $sim, 'RIO', 'PEMS is there again');
is(value($node, $db, 'SELECT failures FROM pfa_sync_state'), '0', 'no failure is counted');
ok(wait_for($node, $db, "SELECT pfa_health()->'checks'->'sync'->>'status'", 30, 'ok'), 'health: ok');

$node->stop;
done_testing();
