# What PEMS refuses for a moment is asked for again, within bounds (H5, H6):
#  - Retry-After as seconds, as date, past, absent or nonsense: the next request
#    comes when it may, and not much later; an absurd one is capped and said
#  - 5xx and 429 are retried max_retries times and no more, each later than the
#    last; other 4xx not at all; the run says how often
#  - a small quota lets a large listing complete in one run
#  - a pause is the tenant's: no run of the same server asks meanwhile
#  - failed runs back off, and a restart of the server makes no burst
use strict;
use warnings;
use PfaTest;
use Test::More;

my $db = 'postgres';
my @cases = (
	# organization, max_retries, fault, status of the run, retries, error;
	# then the bounds of the wait after each refusal, the last ones stay
	[ 'SECONDS', 5, 'status&code=429&retry_after=2&count=1', 'completed', 1, undef, [ 2, 4 ] ],
	# its own clock counts whole seconds
	[ 'DATE', 5, 'status&code=429&retry_after_date=3&count=1', 'completed', 1, undef, [ 2, 5 ] ],
	[ 'UNAVAILABLE', 5, 'status&code=503&retry_after=1&count=1', 'completed', 1, undef, [ 1, 3 ] ],
	[ 'PAST', 5, 'status&code=429&count=2&text=Wed,%2021%20Oct%202015%2007:28:00%20GMT',
		'completed', 2, undef, [ 0.25, 1.5 ], [ 0.25, 2 ] ],
	[ 'NONSENSE', 5, 'status&code=429&count=1&text=soon', 'completed', 1, undef, [ 0.25, 1.5 ] ],
	[ 'ABSENT', 5, 'status&code=429&count=1', 'completed', 1, undef, [ 0.25, 1.5 ] ],
	[ 'PASSING', 5, 'status&code=503&count=3', 'completed', 3, undef, [ 0.25, 1.5 ], [ 0.25, 2 ], [ 0.25, 3 ] ],
	[ 'LASTING', 3, 'status&code=503', 'failed', 3, qr/HTTP status 503.*asked for 4 times/,
		[ 0.25, 1.5 ], [ 0.25, 2 ], [ 0.25, 3 ] ],
	[ 'NEVER', 0, 'status&code=503', 'failed', 0, qr/HTTP status 503.*asked for 1 times/ ],
	[ 'ZERO', 2, 'status&code=429&retry_after=0', 'failed', 2, qr/HTTP status 429.*asked for 3 times/,
		[ 0.25, 1.5 ], [ 0.25, 2 ] ],
	# who asks for a wait and gets it is given more chances, but not endless ones
	[ 'LIMIT', 1, 'status&code=429&text=0.01', 'failed', 20, qr/HTTP status 429.*asked for 21 times/, [ 0, 2 ] ],
	map { [ "FINAL$_", 5, "status&code=$_", 'failed', 0, qr/HTTP status $_/ ] } 400, 401, 403, 404, 422);
my @names = map { $_->[0] } @cases;
my $sim = simulator('--orgs', join(',', map { "$_:50" } @names, qw(FAR FARDATE QUOTA TWIN STORM*6)) . ',LARGE:2000',
	'--seed', 120);
my $node = new_server('main', conf => "max_worker_processes = 48\npfa_vanguard.max_concurrent_syncs = 24\n");

sub source
{
	my ($name, $options) = @_;
	add_source($node, $db, $sim, "at_$name", $options);
}

# They sync by themselves at once, and then not any more.
sub add_at
{
	my ($server, @orgs) = @_;
	$server = defined $server ? "'at_$server'" : "'at_' || o";
	$node->safe_psql($db, "SELECT pfa_add_organization(o, lower($server)::name, sync_interval => '7 days')
		FROM unnest('{${\ join ',', @orgs}}'::text[]) o");
}

# Requests for an organization's data, oldest first: when it was answered, with
# what status, and when it came.
sub requests
{
	return map { [ $_->{time}, $_->{status}, $_->{time} - $_->{ms} / 1000 ] } requests_of($sim, $_[0]);
}

sub ended
{
	my $list = join ',', map { "'$_'" } @_;
	return wait_for($node, $db, "SELECT count(*) = ${\ scalar @_} FROM pfa_sync_run
		WHERE organization_id IN ($list) AND finished_at IS NOT NULL", 40);
}

# ---- no storm ----

my @storm = map { sprintf 'STORM%04d', $_ } 1 .. 6;
source('STORM', "max_retries '2'");
sim($sim, 'fault?kind=status&code=503');
add_at('STORM', @storm);
ok(ended(@storm), 'six organizations fail');
is(scalar(map { requests($_) } @storm), 18, 'each after three requests');
my $due = "SELECT array_agg(next_sync_at ORDER BY organization_id) FROM pfa_sync_status WHERE state = 'backoff'
	AND organization_id LIKE 'STORM%' AND next_sync_at > now() + interval '10 s'";
my $before = value($node, $db, $due);
for my $n (1 .. 3)
{
	$node->restart;
	ok(wait_for($node, $db, "SELECT EXISTS (SELECT FROM pfa_metrics WHERE name = 'pfa_sync_running'
			AND labels->>'organization' = 'STORM0001')"),
		"restart $n: the scheduler has had its turn");
}
is(value($node, $db, $due), $before, 'after restarts they are due when they were before');
is(scalar(map { requests($_) } @storm), 18, 'and none was asked for');
$node->safe_psql($db, 'SELECT pfa_pause_organization(organization_id) FROM pfa_organization');
sim($sim, 'clear');

# ---- one refusal and another, all at the same time ----

source($_->[0], "max_retries '$_->[1]'") for @cases;
source($_, "timeout '600'") for qw(FAR FARDATE);
source('QUOTA', "page_size '10', max_retries '1'");
sim($sim, "fault?kind=$_->[2]&org=$_->[0]") for @cases;
sim($sim, 'fault?kind=status&code=429&retry_after=99999999&org=FAR');
sim($sim, 'fault?kind=status&code=429&retry_after_date=864000&org=FARDATE');
sim($sim, 'fault?kind=quota&n=1&ms=1000&retry_after=1&org=QUOTA');
add_at(undef, @names, qw(FAR FARDATE QUOTA));
ok(ended(@names, 'QUOTA'), 'all runs end');

for my $case (@cases)
{
	my ($org, $max, $fault, $status, $retries, $error, @bounds) = @$case;
	my @requests = requests($org);
	my @wrong;

	is(last_run($node, $db, $org, 'status, retries'), "$status|$retries", "$org: outcome and retries");
	like(last_run($node, $db, $org, 'error'), $error, "$org: error") if defined $error;
	is(scalar(grep { $_->[1] != 200 } @requests), $retries + ($status eq 'failed'),
		"$org: requests that were refused");
	for my $i (0 .. $#requests - 1)
	{
		next if $requests[$i][1] == 200;
		my $bound = $bounds[ $i < @bounds ? $i : -1 ];
		my $wait = $requests[ $i + 1 ][2] - $requests[$i][0];
		push @wrong, "$wait s after refusal $i" unless $wait >= $bound->[0] && $wait <= $bound->[1];
	}
	is("@wrong", '', "$org: the next request comes when it may, and not much later");
}
compare($node, $db, $sim, [ 'QUOTA', map { $_->[0] } grep { $_->[3] eq 'completed' } @cases ], 'those that completed');
is(value($node, $db, "SELECT value FROM pfa_metrics WHERE name = 'pfa_sync_retries_total'
		AND labels->>'organization' = 'LASTING'"), '3', 'the metric counts retries');

for my $org (qw(FAR FARDATE))
{
	ok(wait_for($node, $db, "SELECT state = 'waiting' FROM pfa_sync_status WHERE organization_id = '$org'"),
		"$org: waits");
	my $left = value($node, $db, "SELECT substring(reason FROM 'PEMS asked to wait, (\\d+) s are left')
		FROM pfa_sync_status WHERE organization_id = '$org'");
	cmp_ok($left, '<=', 301, "$org: an absurd Retry-After is capped");
	cmp_ok($left, '>=', 240, "$org: but obeyed as far as that");
	ok(wait_for($node, $db, "SELECT count(*) = 1 FROM pfa_event_log WHERE organization_id = '$org'
			AND code = 'retry_after_capped' AND level = 'warning'
			AND message ~ '^PEMS asked to wait for \\d+ s and is asked again after 300 s\$'", 20),
		"$org: and that is said");
	is(scalar(requests($org)), 1, "$org: one request");
	is(value($node, $db, "SELECT pfa_sync_cancel(run_id) FROM pfa_sync_status WHERE organization_id = '$org'"),
		't', "$org: cancelled");
}

is(last_run($node, $db, 'QUOTA', 'status'), 'completed', 'a small quota: the run completes');
cmp_ok(last_run($node, $db, 'QUOTA', 'retries'), '>=', 2, 'a small quota: it was hit');

# ---- the tenant's pause ----

source('LARGE', "page_size '200', requests_in_flight '4'");
sim($sim, 'fault?kind=status&code=429&retry_after=4&count=1&after=1000&org=LARGE');
add_at('LARGE', 'LARGE');
ok(wait_for($node, $db, "SELECT state = 'waiting' FROM pfa_sync_status WHERE organization_id = 'LARGE'"),
	'a large listing waits');
add_at('LARGE', 'TWIN');
ok(ended(qw(LARGE TWIN)), 'both runs end');
my ($paused) = map { $_->[0] } grep { $_->[1] == 429 } requests('LARGE');
for my $org (qw(LARGE TWIN))
{
	# requests that were on their way already do not count
	my ($next) = grep { $_ > ($org eq 'LARGE' ? 0.5 : 0) } map { $_->[2] - $paused } requests($org);
	cmp_ok($next, '>=', 4, "$org: no request meanwhile");
	cmp_ok($next, '<=', 6, "$org: and then soon");
	is(last_run($node, $db, $org, 'status'), 'completed', "$org: completes");
}

$node->stop;
done_testing();
