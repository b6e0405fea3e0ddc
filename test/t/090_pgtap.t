# What pgTAP says of the schema: each file of test/pgtap is one subtest.
use strict;
use warnings;
use File::Basename;
use PostgreSQL::Test::Utils;
use Test::More;
use PfaTest;

my $root = $ENV{PFA_ROOT} || '.';
my $node = new_server('pgtap');

foreach my $file (sort glob "$root/test/pgtap/*.sql")
{
	subtest basename($file) => sub {
		my ($rc, $out, $err) = $node->psql('postgres', slurp_file($file));

		foreach my $line (split /\n/, $out)
		{
			if ($line =~ /^(not )?ok \d+(?: - (.*))?/)
			{
				ok(!$1, $2);
			}
			elsif ($line =~ /^\s*#/)
			{
				diag($line);
			}
		}
		is($rc, 0, 'the script ran to its end') or diag($err);
	};
}
$node->stop;
done_testing();
