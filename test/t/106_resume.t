# A run that is taken up again goes on where it was, and deletes nothing that
# is there.
#
# Workers are terminated in the middle of a full run; before the run is taken
# up again, PEMS inserts, deletes and changes records, before and behind the
# place reached.  What is claimed, by position and by id:
# - The run completes, and hardly a page that was committed is read again.
# - A record that was there all the time is in the mirror all the time.
# - Once PEMS rests, the next full run finds everything in place.
# - A run that was requested more than an hour ago begins anew.
use strict;
use warnings;

use PfaTest;
use Test::More;

my $sim = simulator('--orgs', 'OFF:3000,KEY:3000', '--seed', 17);
my $node = new_server('resume');
my $db = 'postgres';

add_source($node, $db, $sim, 'off', "page_size '100'");
add_source($node, $db, $sim, 'key', "page_size '100', pagination 'keyset'");
is(add_organizations($node, $db, 'off', 'OFF'), 'completed', 'first sync by position');
is(add_organizations($node, $db, 'key', 'KEY'), 'completed', 'first sync by id');

my $session = session($node, $db);

sub ids
{
	my ($org) = @_;
	return { map { ($_ => 1) } sim($sim, "canonical?org=$org") =~ /"pfaId":"([^"]+)"/g };
}

sub missing
{
	my ($org, $before) = @_;
	my $after = ids($org);
	my %mirror = map { ($_ => 1) }
	  split /\n/, $node->safe_psql($db, "SELECT pfa_id FROM pfa_mirror WHERE organization_id = '$org'");
	return join ' ', grep { $after->{$_} && !$mirror{$_} } sort keys %$before;
}

# Terminate the run's workers when so many pages are committed.
sub interrupt
{
	my ($org, $pages) = @_;
	wait_for($node, $db, "SELECT (SELECT count(*) FROM pfa_sync_page) >= $pages
		AND EXISTS (SELECT FROM pg_stat_activity
			WHERE application_name = 'pfa_vanguard sync $org' AND wait_event_type = 'Extension')") or return 0;
	# one that has just ended by itself is only warned of
	return $session->run("SET client_min_messages = error;
		SELECT count(pg_terminate_backend(pid, 10000)) FROM pg_stat_activity
		WHERE application_name = 'pfa_vanguard sync $org'");
}

sub move
{
	my ($org) = @_;
	sim($sim, "insert?org=$org&count=12&scattered=1");
	sim($sim, "insert?org=$org&count=5");
	sim($sim, "delete?org=$org&count=9");
	sim($sim, "change?org=$org&count=40");
}

for my $org (qw(OFF KEY))
{
	for my $round (1 .. 3)
	{
		my $before = ids($org);

		# each attempt gets 700 rows further
		sim($sim, 'stats?reset=1');
		my $fault = sim_json($sim, "fault?kind=hang&after=700&org=$org")->{fault};
		my $run = value($node, $db, "SELECT pfa_sync_now('$org', 'full')");
		for my $kill (1 .. 3)
		{
			cmp_ok(interrupt($org, 7 * $kill - 1), '>=', 1, "$org, round $round: terminated for the ${kill}. time");
			move($org);
			# the next one first, so that no worker gets past both
			my $former = $fault;
			$fault = sim_json($sim, 'fault?kind=hang&after=' . (700 + 700 * $kill) . "&org=$org")->{fault} if $kill < 3;
			sim($sim, "clear?id=$former");
		}
		is(value($node, $db, "SELECT pfa_sync_wait($run, '1 minute')"), 'completed', "$org, round $round: completes");
		cmp_ok(value($node, $db, "SELECT attempt FROM pfa_sync_run WHERE run_id = $run"), '>=', 2,
			"$org, round $round: not in the first attempt");
		is(missing($org, $before), '', "$org, round $round: nothing is missing");

		# 3,000 rows are 40 pages; each attempt reads the first one, and loses
		# what is on its way
		my $requests = sim_json($sim, 'stats')->{requests}{data};
		cmp_ok($requests, '<=', 40 + 3 * 6 + 20, "$org, round $round: $requests requests");
	}
	is(run_sync($node, $db, $org, 'full'), 'completed', "$org: a full run at rest");
	compare($node, $db, $sim, $org, "$org: at rest");
}

# ---- an old request ----

sim($sim, 'fault?kind=hang&after=1000&org=OFF');
my $run = value($node, $db, "SELECT pfa_sync_now('OFF', 'full')");
wait_for($node, $db, "SELECT count(*) >= 10 FROM pfa_sync_page", 30);
$node->safe_psql($db, "UPDATE pfa_sync_run SET requested_at = requested_at - interval '61 minutes' WHERE run_id = $run");
sim($sim, 'stats?reset=1');
cmp_ok(interrupt('OFF', 10), '>=', 1, 'a run of an old request, terminated');
sim($sim, 'clear');
is(value($node, $db, "SELECT pfa_sync_wait($run, '1 minute')"), 'completed', 'completes');
cmp_ok(sim_json($sim, 'stats')->{requests}{data}, '>=', 40, 'having read all pages anew');
compare($node, $db, $sim, 'OFF', 'in the end');

$session->close;
done_testing();
