/*
 * test_value.c
 *	  Texts, booleans, blanks and defaults; aliases; costs.
 */
#include "record/record.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tap.h"

static PfaBatch *batch;

static bool
decode(PfaKind kind, const char *text, PfaValue *value, const char **reason)
{
	return pfa_value_decode(kind, text, strlen(text), batch, value, reason);
}

/* ---- values ---- */

static void
test_booleans(void)
{
	static const char *const yes[] = {
		"Y", "y", "YES", "Yes", "true", "TRUE", "tRuE", "1", "-1", "+", " Y ",
	};
	static const char *const no[] = {
		"N", "n", "NO", "false", "FALSE", "False", "0", "-", "\tN",
	};
	static const char *const neither[] = {"2",   "-2",   "10",    "01",
										  "1.0", "yy",   "tru",   "truex",
										  "J",   "null", "-1 -1", "\xc3\x9d"};
	const char *reason;
	PfaValue value;
	int i;

	for (i = 0; i < lengthof(yes); i++)
		check(decode(PFA_KIND_BOOLEAN, yes[i], &value, &reason) &&
				  !value.isnull && value.boolean,
			  "%s is yes", yes[i]);
	for (i = 0; i < lengthof(no); i++)
		check(decode(PFA_KIND_BOOLEAN, no[i], &value, &reason) &&
				  !value.isnull && !value.boolean,
			  "%s is no", no[i]);
	for (i = 0; i < lengthof(neither); i++)
		check(!decode(PFA_KIND_BOOLEAN, neither[i], &value, &reason) &&
				  strcmp(reason, "is neither yes nor no") == 0,
			  "%s is neither", neither[i]);
}

static void
test_blanks(void)
{
	static const char *const blanks[] = {"", " ", "    ", " \t\r\n "};
	const char *reason;
	PfaValue value;
	bool ok = true;
	int i;
	int kind;

	for (kind = PFA_KIND_TEXT; kind <= PFA_KIND_BOOLEAN; kind++)
		for (i = 0; i < lengthof(blanks); i++)
		{
			memset(&value, 0xff, sizeof(value));
			ok = ok && decode((PfaKind) kind, blanks[i], &value, &reason) &&
				value.isnull;
		}
	check(ok, "blanks are no value, of any kind");
}

static void
test_texts(void)
{
	static const char *const texts[] =
		{"x",          " x",   "x  ",      " a b ",
		 "0",          "null", "\xc2\xa0", "caf\xc3\xa9 \xf0\x9f\x8f\x97",
		 "line\nbreak"};
	char source[64];
	const char *reason;
	PfaValue value;
	bool ok;
	int i;

	for (i = 0; i < lengthof(texts); i++)
	{
		strcpy(source, texts[i]);
		ok = decode(PFA_KIND_TEXT, source, &value, &reason) && !value.isnull;
		memset(source, 'x', sizeof(source));
		check(ok && value.len == strlen(texts[i]) &&
				  memcmp(value.ptr, texts[i], value.len) == 0,
			  "text %d is kept as it is, in a copy", i + 1);
	}
}

static void
test_defaults(void)
{
	PfaField source = {"a", "source", PFA_KIND_TEXT, "Rental"};
	PfaField flag = {"b", "flag", PFA_KIND_BOOLEAN, "N"};
	PfaField rate = {"c", "rate", PFA_KIND_NUMBER, "abc"};
	PfaField plain = {"d", "plain", PFA_KIND_DATE, NULL};
	const char *reason;
	PfaValue value;

	check(pfa_field_decode(&source, "  ", 2, batch, &value, &reason) &&
			  !value.isnull && value.len == 6 &&
			  memcmp(value.ptr, "Rental", 6) == 0,
		  "a blank means the default");
	check(pfa_field_decode(&source, "Purchase", 8, batch, &value, &reason) &&
			  value.len == 8,
		  "only a blank does");
	check(pfa_field_decode(&flag, "", 0, batch, &value, &reason) &&
			  !value.isnull && !value.boolean,
		  "a default is read by its kind");
	check(!pfa_field_decode(&rate, "", 0, batch, &value, &reason) &&
			  strstr(reason, "mapping") != NULL,
		  "one that cannot be read is the mapping's fault");
	check(!pfa_field_decode(&rate, "xyz", 3, batch, &value, &reason) &&
			  strcmp(reason, "is not a number") == 0,
		  "a value is its own");
	check(pfa_field_decode(&plain, "", 0, batch, &value, &reason) &&
			  value.isnull,
		  "without a default a blank is no value");
}

/* ---- aliases ---- */

static void
test_aliases(void)
{
	static PfaField fields[] = {
		{"pfs_id", "pfaId", PFA_KIND_TEXT},
		{"pfs_a_org", "organization", PFA_KIND_TEXT},
		{"pfs_f_area", "areaSilo", PFA_KIND_TEXT},
		{"pfs_lastmodified", "pemsVersion", PFA_KIND_TEXT},
	};
	PfaMapping mapping = {lengthof(fields), fields};
	PfaMapping none = {1, fields + 2};

	pfa_mapping_prepare(&mapping);
	check(mapping.id_field == 0 && mapping.organization_field == 1 &&
			  mapping.version_field == 3,
		  "fields with a meaning are found");
	check(pfa_mapping_find(&mapping, "PFS_F_Area", 10) == 2 &&
			  pfa_mapping_find(&mapping, "pfs_f_area", 10) == 2,
		  "an alias is found in any case");
	check(pfa_mapping_find(&mapping, "pfs_f_area", 9) == -1 &&
			  pfa_mapping_find(&mapping, "pfs_f_areas", 11) == -1 &&
			  pfa_mapping_find(&mapping, "", 0) == -1 &&
			  pfa_mapping_find(&mapping,
							   "pfs\x7f"
							   "f_area",
							   10) == -1 &&
			  pfa_mapping_find(&mapping, "pfs_id\0x", 8) == -1,
		  "neither a part of it nor more than it");
	pfa_mapping_prepare(&none);
	check(none.id_field == -1 && none.organization_field == -1 &&
			  none.version_field == -1,
		  "fields that are not mapped are not");
}

/* ---- costs ---- */

/*
 * Is cents the fraction days * mantissa * 10^4 / (3044 * 10^scale), rounded
 * half away from zero?  Then it is off by half a unit at most, and by exactly
 * half of one only on the outer side.
 */
static bool
is_cost(int32_t days, const PfaValue *rate, int64_t cents)
{
	__int128 exact = (__int128) rate->mantissa * days * 10000;
	__int128 unit = 3044;
	__int128 back;
	__int128 off;
	int i;

	for (i = 0; i < rate->scale; i++)
		unit *= 10;
	if (__builtin_mul_overflow((__int128) cents, unit, &back))
		return false;
	off = back - exact;
	if (exact < 0)
	{
		off = -off;
		back = -back;
	}
	return 2 * off <= unit && 2 * off > -unit && back >= 0;
}

static void
test_random_costs(int rounds)
{
	int64_t power = 1;
	bool ok = true;
	int ntoo_large = 0;
	int i;

	for (i = 0; i < rounds && ok; i++)
	{
		PfaValue rate = {0};
		int64_t cents = -1;
		int32_t days = (int32_t) random_below(1 + random_below(4000000));

		power = random_below(18) == 0 ? 1 : power * 10;
		if (power >= 1000000000000000000)
			power = 1;
		rate.mantissa = (int64_t) random_below((size_t) power * 10);
		rate.scale = (int16_t) random_below(random_below(4) == 0 ? 19 : 4);
		if (random_below(4) == 0)
			days = -days;
		if (random_below(4) == 0)
			rate.mantissa = -rate.mantissa;
		if (pfa_cost_rental(days, &rate, &cents))
			ok = is_cost(days, &rate, cents);
		else
		{
			long double about = (long double) rate.mantissa * days / 0.3044L;
			int k;

			for (k = 0; k < rate.scale; k++)
				about /= 10;
			ntoo_large++;
			ok = about > 9.22e18L || about < -9.22e18L;
		}
		if (!ok)
			printf("# %d days, %lld / 10^%d: %lld\n", days,
				   (long long) rate.mantissa, rate.scale, (long long) cents);
	}
	check(ok && ntoo_large < rounds / 10, "%d random costs", rounds);
}

static const struct
{
	int32_t days;
	int64_t mantissa;
	int scale;
	int64_t cents;
} costs[] = {
	{0, 525000, 2, 0},
	{30, 0, 0, 0},
	{3044, 525000, 2, 52500000}, /* a hundred months */
	{1, 3044, 2, 100},
	{1, 1522, 4, 1},
	{1, 1521, 4, 0},
	{-1, 1522, 4, -1},
	{1, -1522, 4, -1},
	{-1, -1522, 4, 1},
	{3, 1522, 4, 2},
	{5, 1522, 4, 3},
	{166, 525, -1, 0},         /* no such scale */
	{166, 5250, 0, 2863009},   /* 28630.0919… */
	{365, 125050, 2, 1499450}, /* 14994.5042… */
	{1, 999999999999999999, 18, 3},
	{3652058, 999999999999999999, 2, 0}, /* too large */
};

static void
test_costs(void)
{
	PfaValue none = {0};
	int64_t cents;
	int i;

	for (i = 0; i < lengthof(costs); i++)
	{
		PfaValue rate = {0};
		bool fits = costs[i].cents != 0 || costs[i].days == 0 ||
			costs[i].mantissa < 1522;

		rate.mantissa = costs[i].mantissa;
		rate.scale = (int16_t) costs[i].scale;
		if (costs[i].scale < 0)
			fits = false;
		cents = 0;
		check(pfa_cost_rental(costs[i].days, &rate, &cents) == fits &&
				  cents == costs[i].cents,
			  "%d days at %lld / 10^%d", costs[i].days,
			  (long long) costs[i].mantissa, costs[i].scale);
	}
	none.isnull = true;
	check(!pfa_cost_rental(30, &none, &cents), "no rate, no cost");
	none.isnull = false;
	none.ptr = "1000000000000000000";
	none.len = 19;
	check(!pfa_cost_rental(30, &none, &cents), "a rate as text is not read");
	none.ptr = NULL;
	none.mantissa = INT64_MIN;
	none.scale = 18;
	check(pfa_cost_rental(INT32_MIN, &none, &cents) &&
			  is_cost(INT32_MIN, &none, cents),
		  "the least of both");
}

int
main(void)
{
	batch = pfa_batch_create();
	test_booleans();
	test_blanks();
	test_texts();
	test_defaults();
	test_aliases();
	test_costs();
	test_random_costs(1000000);
	pfa_batch_free(batch);
	return end_of_tests();
}
