# Whatever shape PEMS's answers have, the mirror holds what they say.
#
# - Each variation of the protocol alone, and all pairs of them together: the
#   mirror equals the canonical content, record for record and field for field,
#   for listings of many pages, of one record, of none, and of an organization
#   whose code begins another one's.
# - The same content in another shape is unchanged content: no row is written.
use strict;
use warnings;

use PfaTest;
use Test::More;

my @factors = (
	[qw(shape positional named)],
	[qw(alias_case lower upper)],
	[qw(total both records totalrows total-count rowcount string none)],
	[qw(more on off)],
	[qw(grid grid grid1 top)],
	[qw(fields inline head header)],
	[qw(empty array null string absent)],
	[qw(single array object)],
	[qw(cursor cursor offset)],
	[qw(dates iso isotime dmy mdy mixed)],
	[qw(numbers plain thousands string)],
	[qw(bools yn truefalse 10 minus1)],
	[qw(oddities off on)],
	[qw(gzip off on)],
	[qw(reorder off on)]);

# Pages of 40 with an overlap of 10: the last page of ONEMORE has one new row.
my @orgs = qw(RIO RIO2 ONE NONE ONEMORE);
my $sim = simulator('--orgs', 'RIO:211,RIO2:33,ONE:1,NONE:0,ONEMORE:71', '--seed', 11);
my $node = new_server('shapes');

add_source($node, 'postgres', $sim, 'pems', "page_size '40'");
is(add_organizations($node, 'postgres', 'pems', @orgs), 'completed', 'first sync');

sub set
{
	my %set = @_;
	sim($sim, 'set?' . join('&', map { "$_=$set{$_}" } sort keys %set));
}

# Two syncs in one session: what the earlier shape left is the same content in
# this one, and read into an empty mirror it is all there.
sub check
{
	my ($name) = @_;
	my ($same, $anew, @differences) = split /\n/, $node->safe_psql('postgres', q{
		SELECT max(run_id) AS last FROM pfa_sync_run \gset
		SELECT FROM pfa_sync_now();
		SELECT coalesce(pfa_sync_wait(NULL, '1 minute'), 'completed') AS waited \gset
		SELECT :'waited' || ' ' || sum(rows_inserted + rows_updated + rows_deleted + rows_rejected) ||
			coalesce(' ' || string_agg(error, '; '), '') FROM pfa_sync_run WHERE run_id > :last;
		DELETE FROM pfa_mirror;
		SELECT FROM pfa_sync_now();
		SELECT coalesce(pfa_sync_wait(NULL, '1 minute'), 'completed') AS waited \gset
		SELECT :'waited' || ' ' || string_agg(rows_inserted || '/' || rows_seen, ' ' ORDER BY organization_id)
		FROM (SELECT DISTINCT ON (organization_id) * FROM pfa_sync_run ORDER BY organization_id, run_id DESC) r;
	} . differences_query($sim, @orgs));

	is($same, 'completed 0', "$name: nothing to write where another shape has been read");
	is($anew, 'completed 0/0 1/1 71/71 211/211 33/33', "$name: all is read");
	is("@differences", '', "$name: mirror equals PEMS, record for record");
	return;
}

# ---- each variation alone ----

my %default = map { ($_->[0], $_->[1]) } @factors;

for my $factor (@factors)
{
	my ($name, @values) = @$factor;
	for my $value (@values[ 1 .. $#values ])
	{
		set(%default, $name => $value);
		check("$name=$value");
	}
}

# ---- all pairs ----

my $n = 0;
for my $combination (pairwise(@factors))
{
	set(%$combination);
	check(sprintf 'combination %d (%s)', ++$n,
		join ' ', map { "$_=$combination->{$_}" }
		grep { $combination->{$_} ne $default{$_} } sort keys %$combination);
}
note "$n combinations";

done_testing();
