/*
 * test_record_hash.c
 *	  Equal content, equal hash; another content, another hash.
 */
#include "record/record.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tap.h"

#define NFIELDS 7

static PfaField fields[NFIELDS] = {
	{"t", "name", PFA_KIND_TEXT},    {"u", "other", PFA_KIND_TEXT},
	{"n", "rate", PFA_KIND_NUMBER},  {"m", "price", PFA_KIND_NUMBER},
	{"d", "start", PFA_KIND_DATE},   {"e", "end", PFA_KIND_DATE},
	{"b", "flag", PFA_KIND_BOOLEAN},
};
static PfaMapping mapping = {NFIELDS, fields};
static PfaBatch *batch;

static const char *const blank[NFIELDS] = {"", "", "", "", "", "", ""};

/* Hash of a record by its texts; the value of one field may be another. */
static uint64_t
hash_with(const char *const *texts, int field, const char *text)
{
	PfaValue values[NFIELDS];
	const char *reason;
	int i;

	for (i = 0; i < NFIELDS; i++)
	{
		const char *t = i == field ? text : texts[i];

		if (!pfa_field_decode(&fields[i], t, strlen(t), batch, &values[i],
							  &reason))
		{
			printf("Bail out! %s %s\n", t, reason);
			exit(1);
		}
	}
	return pfa_record_hash(&mapping, values);
}

static void
test_spellings(void)
{
	static const struct
	{
		int field;
		const char *spellings[8];
	} same[] = {
		{2,
		 {"1250", "1,250.00", "1250.0", "1.25e3", "12500E-1", "+1250",
		  " 001250 "}},
		{2, {"0", "-0", "-0.000", "0e9", ".0"}},
		{2,
		 {"-12345678901234567890.5", "-12,345,678,901,234,567,890.50",
		  "-1234567890123456789050e-2"}},
		{2, {"1000000000000000000", "1e18", "1000000000000000000.0"}},
		{4,
		 {"2025-03-15", "2025-03-15T10:11:12", "15-MAR-2025", "03/15/2025",
		  "15-mar-2025", "3/15/2025 1:00 PM"}},
		{6, {"Y", "y", "true", "TRUE", "1", "-1", "yes", "+"}},
		{6, {"N", "n", "false", "False", "0", "no", "-"}},
		{0, {"", " ", "\t  "}},
	};
	int i;
	int k;

	for (i = 0; i < lengthof(same); i++)
	{
		const char *const *spellings = same[i].spellings;
		uint64_t hash = hash_with(blank, same[i].field, spellings[0]);
		bool ok = true;

		for (k = 1; k < 8 && spellings[k] != NULL; k++)
			ok &= hash_with(blank, same[i].field, spellings[k]) == hash;
		check(ok, "%s, however it is spelled",
			  *spellings[0] == '\0' ? "a blank" : spellings[0]);
	}
}

static void
test_differences(void)
{
	static const char *const texts[NFIELDS] = {"crane",      "", "100", "",
											   "2025-01-01", "", "Y"};
	static const char *const others[NFIELDS][4] =
		{{"Crane", "crane ", "", "cran"},
		 {"crane", "0", "x", "Y"},
		 {"10", "0.1", "-100", ""},
		 {"100", "0", "1", "1e30"},
		 {"2025-01-02", "2024-12-31", "", "0001-01-01"},
		 {"2025-01-01", "2000-01-01", "1999-12-31", "2000-01-02"},
		 {"N", "", "0", "false"}};
	uint64_t hashes[NFIELDS * 4 + 1];
	int n = 0;
	int i;
	int k;
	bool ok = true;

	hashes[n++] = hash_with(texts, -1, NULL);
	for (i = 0; i < NFIELDS; i++)
		for (k = 0; k < (i == 6 ? 2 : 4); k++)
			hashes[n++] = hash_with(texts, i, others[i][k]);
	for (i = 0; i < n; i++)
		for (k = 0; k < i; k++)
			ok &= hashes[i] != hashes[k];
	check(ok, "one changed field is another record, each time another one");
}

static int
compare_hashes(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *) a;
	uint64_t y = *(const uint64_t *) b;

	return x < y ? -1 : x > y;
}

/*
 * Small changes in many records at once: of a million sums of hashes no two
 * are equal (by chance that happens once in 37 million such tests).
 */
static void
test_collisions(void)
{
	int n = 1 << 20;
	uint64_t *hashes = malloc((size_t) n * sizeof(uint64_t));
	PfaValue values[NFIELDS];
	int i;
	bool ok = true;

	memset(values, 0, sizeof(values));
	for (i = 0; i < NFIELDS; i++)
		values[i].isnull = i < 2;
	for (i = 0; i < n; i++)
	{
		values[2].mantissa = i & 31;
		values[3].mantissa = i >> 5 & 31;
		values[3].scale = (int16_t) (values[3].mantissa % 10 == 0 ? 0 : 1);
		values[4].days = i >> 10 & 31;
		values[5].days = i >> 15 & 15;
		values[6].boolean = i >> 19 & 1;
		hashes[i] = pfa_record_hash(&mapping, values);
	}
	qsort(hashes, (size_t) n, sizeof(uint64_t), compare_hashes);
	for (i = 1; i < n; i++)
		ok &= hashes[i] != hashes[i - 1];
	check(ok, "%d records that differ little", n);
	free(hashes);
}

/* Each bit of a text moves half of the hash's bits, whatever its length. */
static void
test_avalanche(void)
{
	char text[80];
	double least = 64;
	double most = 0;
	size_t len;
	size_t bit;
	size_t at;

	for (len = 1; len < sizeof(text); len++)
	{
		double sum = 0;
		int rounds = 200;
		int i;

		for (i = 0; i < rounds; i++)
		{
			PfaValue value = {0};
			PfaMapping one = {1, fields};
			uint64_t before;

			for (at = 0; at < len; at++)
				text[at] = (char) random_bits();
			value.ptr = text;
			value.len = (uint32_t) len;
			before = pfa_record_hash(&one, &value);
			bit = random_below(len * 8);
			text[bit / 8] ^= (char) (1 << bit % 8);
			sum += __builtin_popcountll(before ^ pfa_record_hash(&one, &value));
		}
		if (sum / rounds < least)
			least = sum / rounds;
		if (sum / rounds > most)
			most = sum / rounds;
	}
	check(least > 30 && most < 34, "a bit moves half of the bits");
}

static void
test_mappings(void)
{
	static const char *const texts[NFIELDS] = {"crane",      "", "100", "7",
											   "2025-01-01", "", "Y"};
	PfaField reversed[NFIELDS + 1];
	PfaMapping other = {NFIELDS, reversed};
	PfaValue values[NFIELDS + 1];
	const char *reason;
	uint64_t before;
	int i;

	for (i = 0; i < NFIELDS; i++)
	{
		const char *text = texts[NFIELDS - 1 - i];

		reversed[i] = fields[NFIELDS - 1 - i];
		reversed[i].alias = (char *) "renamed";
		pfa_value_decode(reversed[i].kind, text, strlen(text), batch,
						 &values[i], &reason);
	}
	memset(&reversed[NFIELDS], 0, sizeof(PfaField));
	reversed[NFIELDS].alias = reversed[NFIELDS].key = (char *) "new";
	memset(&values[NFIELDS], 0, sizeof(PfaValue));
	values[NFIELDS].isnull = true;
	pfa_mapping_prepare(&other);
	before = hash_with(texts, -1, NULL);
	check(pfa_record_hash(&other, values) == before,
		  "order and aliases do not matter");
	other.nfields++;
	pfa_mapping_prepare(&other);
	check(pfa_record_hash(&other, values) != before,
		  "a new field does, even without a value");
	other.nfields--;
	reversed[NFIELDS - 1].key = (char *) "Name";
	pfa_mapping_prepare(&other);
	check(pfa_record_hash(&other, values) != before, "another key does");
	reversed[NFIELDS - 1] = fields[0];
	reversed[4].kind = PFA_KIND_TEXT;
	values[4].ptr = "100";
	values[4].len = 3;
	pfa_mapping_prepare(&other);
	check(pfa_record_hash(&other, values) != before,
		  "and so does a number that becomes a text");
}

/* Hashes are stored: another function rewrites everybody's mirror. */
static void
test_stable(void)
{
	static const char *const texts[NFIELDS] =
		{"crane, rough terrain", "abc", "1250.50", "12345678901234567890",
		 "2025-03-15",           "",    "Y"};

	check(hash_with(blank, -1, NULL) == mapping.seed,
		  "a record without values is its keys");
	if (!check(hash_with(texts, -1, NULL) == UINT64_C(0xbbd135b8ead4b48b),
			   "the function is the released one"))
		printf("# it gives %llx\n",
			   (unsigned long long) hash_with(texts, -1, NULL));
}

int
main(void)
{
	batch = pfa_batch_create();
	pfa_mapping_prepare(&mapping);
	test_spellings();
	test_differences();
	test_collisions();
	test_avalanche();
	test_mappings();
	test_stable();
	pfa_batch_free(batch);
	return end_of_tests();
}
