# A bad answer is never taken for data.
#
# Each fault strikes the first page, one in the middle or the last one, once or
# again and again, with both row shapes.  Meanwhile records have been changed,
# inserted and deleted.  What is claimed:
# - A run that completes has made the mirror equal to PEMS.
# - A run that fails has deleted nothing.
# - A fault that passes is got over within the run, one that stays is not (or
#   is none that matters), as the table says.
# - When it has passed, the next sync completes.
use strict;
use warnings;

use PfaTest;
use Test::More;

my $ROWS = 230;
my @positions = ([ first => 0 ], [ middle => 100 ], [ last => 200 ]);

# fault => outcome if it strikes once, outcome if it stays; c: completed,
# f: failed, "": either
my @faults = (
	[ 'latency&ms=30' => 'c', 'c' ],
	[ 'status&code=500' => 'c', 'f' ],
	[ 'status&code=502' => 'c', 'f' ],
	[ 'status&code=503' => 'c', 'f' ],
	[ 'status&code=504' => 'c', 'f' ],
	[ 'status&code=400' => 'f', 'f' ],
	[ 'status&code=401' => 'f', 'f' ],
	[ 'status&code=403' => 'f', 'f' ],
	[ 'status&code=404' => 'f', 'f' ],
	[ 'redirect' => 'f', 'f' ],
	[ 'cut' => 'c', 'f' ],
	[ 'cut&bytes=0' => 'c', 'f' ],
	[ 'reset' => 'c', 'f' ],
	[ 'close' => 'c', 'c' ],
	[ 'truncate' => 'c', 'f' ],
	[ 'truncate&bytes=1' => 'c', 'f' ],
	[ 'drip&n=200&ms=200' => 'c', 'f' ],
	[ 'hang' => 'c', 'f' ],
	[ 'hang&bytes=3000' => 'c', 'f' ],
	[ 'endless' => 'c', 'f' ],
	[ 'alert&text=no' => 'c', 'f' ],
	[ 'html' => 'c', 'f' ],
	[ 'garbage' => 'c', 'f' ],
	[ 'empty' => 'c', 'f' ],
	[ 'wrong_total&rows=17' => 'c', 'f' ],
	[ 'wrong_total&rows=-100' => 'c', 'c' ],
	[ 'wrong_total&n=0' => 'c', 'c' ],
	[ 'more&text=%2B' => 'c', 'f' ],
	[ 'more&text=-' => 'c', 'c' ],
	[ 'more' => 'c', 'f' ],
	[ 'dup&row=5' => 'c', 'f' ],
	[ 'same_page' => 'c', 'f' ],
	[ 'unsorted' => 'c', 'f' ],
	[ 'hidden&n=9' => 'c', 'f' ],
	[ 'short_pages' => 'c', 'c' ],
	[ 'short_pages&rows=5' => 'c', 'c' ],
	[ 'short_pages&rows=1' => 'c', 'f' ],
	[ 'ignore_filter&text=all' => 'c', '' ],
	[ 'big_record&bytes=2000000&row=115' => 'c', 'c' ],
	[ 'bad_utf8&row=115' => 'c', 'c' ],
	[ 'nul&row=115' => 'c', 'c' ],
	[ 'surrogates&row=115' => 'c', 'c' ],
	[ 'deep&row=115&n=10' => 'c', 'c' ],
	[ 'deep&row=115&n=100000' => '', '' ],
	[ 'raw&row=115&field=pfs_f_rental&text=[1e999999999,{"a":1}]' => 'c', 'c' ]);

my $BATCH = 24;
my @orgs = map { sprintf 'F%02d', $_ } 1 .. $BATCH;
my $sim = simulator('--orgs', join(',', map { "$_:$ROWS" } @orgs), '--seed', 5);
my $node = new_server('faults', conf => 'pfa_vanguard.max_concurrent_syncs = 8');
my $batches = 0;

add_source($node, 'postgres', $sim, 'pems',
	"page_size '40', timeout '2', connect_timeout '2', max_retries '1'");
is(add_organizations($node, 'postgres', 'pems', @orgs), 'completed', 'first sync');

# ---- one batch: a fault for each organization ----

# Not the record at row 115, which some faults make one that cannot be mapped.
sub change_records
{
	my ($n) = @_;
	for my $org (@orgs)
	{
		sim($sim, "change?org=$org&id=$_&field=description&value=changed$n")
		  for qw(PFA-000007 PFA-000060 PFA-000226);
		sim($sim, "insert?org=$org&count=2");
		sim($sim, sprintf 'delete?org=%s&id=PFA-%06d', $org, 10 + $n);
	}
}

sub request_syncs
{
	my $list = join ',', map { "'$_'" } @_;
	return "SELECT pfa_sync_now(o) FROM unnest(ARRAY[$list]) o \\g /dev/null\n"
	  . "SELECT pfa_sync_wait(NULL, '2 minutes') \\g /dev/null\n";
}

my $last_runs = "(SELECT DISTINCT ON (organization_id) * FROM pfa_sync_run
	ORDER BY organization_id, run_id DESC)";

sub run_batch
{
	my ($shape, @cases) = @_;
	my @busy = @orgs[ 0 .. $#cases ];
	my (%run, $again, @differences);

	change_records(++$batches);
	for my $i (0 .. $#cases)
	{
		my ($fault, $position, $once, $expected) = @{ $cases[$i] };
		# What ends a run has to strike its first worker, too, where the second
		# one has had it, with two requests on their way.
		my $count = $expected eq 'f' ? 3 : 1;
		sim($sim, "fault?kind=$fault&after=$position->[1]&org=$orgs[$i]"
			  . ($once ? "&count=$count" : ''));
	}
	my @rows = split /\n/, $node->safe_psql('postgres',
		"CREATE TEMP TABLE before AS SELECT organization_id, pfa_id FROM pfa_mirror;\n"
		  . request_syncs(@busy)
		  . "SELECT organization_id, status, (SELECT count(*) FROM before b
				WHERE b.organization_id = r.organization_id AND NOT EXISTS
					(SELECT FROM pfa_mirror m WHERE m.organization_id = b.organization_id
						AND m.pfa_id = b.pfa_id)), rows_deleted, error
			FROM $last_runs r ORDER BY 1");
	for (@rows)
	{
		my ($org, @row) = split /\|/;
		$run{$org} = \@row;
	}
	my @complete = grep { $run{$_}[0] eq 'completed' } @busy;
	my %wrong = map { ($_ => differences($node, 'postgres', $sim, $_)) }
	  @complete && differences($node, 'postgres', $sim, @complete) ne '' ? @complete : ();

	for my $i (0 .. $#cases)
	{
		my ($fault, $position, $once, $expected) = @{ $cases[$i] };
		my ($status, $gone, $deleted, $error) = @{ $run{ $orgs[$i] } };
		my $name = "$fault at the $position->[0] page, " . ($once ? 'once' : 'to stay') . ", $shape";

		if ($status eq 'completed')
		{
			is($wrong{ $orgs[$i] } // '', '', "$name: completed, mirror equals PEMS");
		}
		else
		{
			is("$gone $deleted", '0 0', "$name: $status, nothing was deleted");
		}
		is($status, $expected eq 'c' ? 'completed' : 'failed', "$name: outcome")
		  || diag("error: " . ($error // ''))
		  if $expected ne '';
	}

	sim($sim, 'clear');
	($again, @differences) = split /\n/, $node->safe_psql('postgres',
		request_syncs(@orgs)
		  . "SELECT coalesce(string_agg(organization_id || ': ' || error, '; '), 'all completed')
			FROM $last_runs r WHERE status <> 'completed';\n"
		  . differences_query($sim, @orgs));
	is($again, 'all completed', "$shape: next syncs complete");
	is("@differences", '', "$shape: and mirror equals PEMS");
}

for my $shape (qw(positional named))
{
	my @cases;

	sim($sim, "set?shape=$shape");
	for my $once (1, 0)
	{
		for my $fault (@faults)
		{
			push @cases, [ $fault->[0], $_, $once, $fault->[ $once ? 1 : 2 ] ] for @positions;
		}
	}
	run_batch($shape, splice @cases, 0, $BATCH) while @cases;
}

done_testing();
