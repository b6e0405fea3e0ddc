/*
 * test_number.c
 *	  Numbers against a grammar and an arithmetic of their own.
 *
 * The oracle for what is a number is a regular expression; that for its value
 * works on the text alone: it moves the point and strips zeros.
 */
#include "record/record.h"

#include <regex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tap.h"

#define GRAMMAR \
	"^[+-]?(([0-9]+|[1-9][0-9]{0,2}(,[0-9]{3})+)(\\.[0-9]*)?" \
	"|\\.[0-9]+)([eE][+-]?[0-9]+)?$"
#define MAX_DIGITS 1000
#define TEXT_SIZE  8192

static PfaBatch *batch;
static regex_t grammar;

/* ---- the oracle: spelling to canonical text ---- */

/* False where the number has more digits than are accepted. */
static bool
canonical(const char *text, char *out)
{
	static char digits[TEXT_SIZE];
	long point = -1;
	long exponent = 0;
	long n = 0;
	long first = 0;
	long i;
	bool negative = *text == '-';

	for (; *text != '\0' && strchr("eE", *text) == NULL; text++)
	{
		if (*text == '.')
			point = n;
		else if (*text >= '0' && *text <= '9')
			digits[n++] = *text;
	}
	if (point < 0)
		point = n;
	if (*text != '\0')
		exponent = strtol(text + 1, NULL, 10); /* saturates */
	while (n > 0 && digits[n - 1] == '0')
		n--;
	while (first < n && digits[first] == '0')
		first++;
	if (first == n)
	{
		strcpy(out, "0");
		return true;
	}
	if (exponent > 100000)
		exponent = 100000;
	if (exponent < -100000)
		exponent = -100000;
	point += exponent; /* digits before the point, from first on */
	if (point - first > MAX_DIGITS || n - point > MAX_DIGITS)
		return false;
	if (negative)
		*out++ = '-';
	for (i = point < first ? point : first; i < point || i < n; i++)
	{
		if (i == point)
		{
			if (point <= first)
				*out++ = '0';
			*out++ = '.';
		}
		*out++ = i >= first && i < n ? digits[i] : '0';
	}
	*out = '\0';
	return true;
}

/* ---- a decoded value as text ---- */

static void
write_value(const PfaValue *value, char *out)
{
	char digits[32];
	int n;
	int i;

	if (value->ptr != NULL)
	{
		memcpy(out, value->ptr, value->len);
		out[value->len] = '\0';
		return;
	}
	n = snprintf(digits, sizeof(digits), "%lld",
				 llabs((long long) value->mantissa));
	if (value->mantissa < 0)
		*out++ = '-';
	if (value->scale >= n)
		*out++ = '0';
	for (i = value->scale < n ? 0 : n - value->scale; i < n; i++)
	{
		if (n - i == value->scale)
			*out++ = '.';
		*out++ = i < 0 ? '0' : digits[i];
	}
	*out = '\0';
}

/* Is the form that the value has the one the contract asks for? */
static bool
form_fits(const PfaValue *value, const char *expected)
{
	size_t ndigits = 0;
	bool significant = false;

	for (; *expected != '\0'; expected++)
	{
		significant |= *expected >= '1' && *expected <= '9';
		ndigits += significant && *expected >= '0' && *expected <= '9';
	}
	if (ndigits > 18)
		return value->ptr != NULL && value->mantissa == 0;
	return value->ptr == NULL && value->len == 0;
}

static bool
agrees(const char *text)
{
	static char expected[TEXT_SIZE];
	static char got[TEXT_SIZE];
	const char *reason = NULL;
	PfaValue value;
	bool decoded;
	bool is_number = regexec(&grammar, text, 0, NULL, 0) == 0;

	decoded = pfa_value_decode(PFA_KIND_NUMBER, text, strlen(text), batch,
							   &value, &reason);
	strcpy(got, "none");
	if (decoded)
		write_value(&value, got);
	if (!is_number)
		strcpy(expected, "none");
	else if (!canonical(text, expected))
		strcpy(expected, "none");
	if (decoded == (reason == NULL) && strcmp(got, expected) == 0 &&
		(!decoded || form_fits(&value, expected)))
		return true;
	printf("# %s: expected %s, got %s (%s)\n", text, expected, got,
		   reason ? reason : "no reason");
	return false;
}

/* ---- random spellings ---- */

static int
append_digits(char *out, int n)
{
	int i;

	for (i = 0; i < n; i++)
		out[i] = random_below(4) == 0 ? '0' : (char) ('0' + random_below(10));
	return n;
}

static int
append_groups(char *out, int ngroups)
{
	int n = 1 + (int) random_below(3);
	int i;

	append_digits(out, n);
	out[0] = (char) ('1' + random_below(9));
	for (i = 0; i < ngroups; i++)
	{
		out[n++] = ',';
		n += append_digits(out + n, 3);
	}
	return n;
}

/* Up to some length that is short most of the time. */
static int
random_length(int max)
{
	return (int) random_below(1 + random_below(1 + random_below((size_t) max)));
}

static void
random_number(char *out)
{
	static const char *const signs[] = {"", "", "", "-", "+"};
	char *p = stpcpy(out, signs[random_below(lengthof(signs))]);

	if (random_below(3) == 0)
		p += append_groups(p, random_length(12));
	else
		p += append_digits(p, random_length(700));
	if (random_below(2) == 0)
	{
		*p++ = '.';
		p += append_digits(p, random_length(700));
	}
	if (random_below(4) == 0)
		p += sprintf(p, "%c%s%d", random_below(2) ? 'e' : 'E',
					 signs[random_below(lengthof(signs))], random_length(1300));
	*p = '\0';
	if (*out == '\0')
		strcpy(out, "7"); /* a blank is no number, but no fault */
}

static void
random_garbage(char *out)
{
	static const char bytes[] = "0011234567899.,,+-eE x";
	size_t n = 1 + random_below(9);
	size_t i;

	for (i = 0; i < n; i++)
		out[i] = bytes[random_below(sizeof(bytes) - 1)];
	/* spaces at the ends are not the grammar's business */
	if (out[0] == ' ')
		out[0] = '1';
	if (out[n - 1] == ' ')
		out[n - 1] = '1';
	out[n] = '\0';
}

static void
test_random(void (*make)(char *), int rounds, const char *what)
{
	static char text[TEXT_SIZE];
	bool ok = true;
	int i;

	for (i = 0; i < rounds && ok; i++)
	{
		make(text);
		ok = agrees(text);
		if (i % 1000 == 0)
			pfa_batch_reset(batch);
	}
	check(ok, "%d %s", rounds, what);
}

/* ---- spelled out ---- */

static const struct
{
	const char *text;
	int64_t mantissa;
	int scale;
} numbers[] = {
	{"0", 0, 0},
	{"-0", 0, 0},
	{"-0.00", 0, 0},
	{"0e17", 0, 0},
	{"1250", 1250, 0},
	{"1,250.00", 1250, 0},
	{"1250.0", 1250, 0},
	{" 1250\t", 1250, 0},
	{"+1250", 1250, 0},
	{"1.25e3", 1250, 0},
	{"12500E-1", 1250, 0},
	{"001250", 1250, 0},
	{".5", 5, 1},
	{"5.", 5, 0},
	{"-0.050", -5, 2},
	{"1,234,567.5", 12345675, 1},
	{"999999999999999999", 999999999999999999, 0},
	{"-999999999999999999", -999999999999999999, 0},
	{"0.999999999999999999", 999999999999999999, 18},
	{"1e17", 100000000000000000, 0},
	{"1e-1000", 1, 1000},
	{"100000000000000000000e-20", 1, 0},
	{"0.00000000000000000001", 1, 20},
};

static const struct
{
	const char *text;
	const char *canonical;
} long_numbers[] = {
	{"1e18", "1000000000000000000"},
	{"-9999999999999999999", "-9999999999999999999"},
	{"1,000,000,000,000,000,000.50", "1000000000000000000.5"},
	{"0.1234567890123456789", "0.1234567890123456789"},
	{"1234567890123456789e-25", "0.0000001234567890123456789"},
	{"12345678901234567890e5", "1234567890123456789000000"},
};

static const struct
{
	const char *text;
	const char *reason;
} refused[] = {
	{"NaN", "is not a number"},
	{"Infinity", "is not a number"},
	{"-inf", "is not a number"},
	{"0x10", "is not a number"},
	{"12.5 per day", "is not a number"},
	{"true", "is not a number"},
	{"1 250", "is not a number"},
	{"--1", "is not a number"},
	{"-", "is not a number"},
	{".", "is not a number"},
	{"1e", "is not a number"},
	{"e5", "is not a number"},
	{"1.2.3", "is not a number"},
	{"1.250,00", "is not a number"},
	{"\xd9\xa1", "is not a number"},
	{"$5", "is not a number"},
	{"1,25", "is not a number: its separators are not between thousands"},
	{"0,125", "is not a number: its separators are not between thousands"},
	{"12,34,567", "is not a number: its separators are not between thousands"},
	{"1,,000", "is not a number: its separators are not between thousands"},
	{"1e1000", "is a number of too many digits"},
	{"1e-1001", "is a number of too many digits"},
	{"1e99999999999999999999", "is a number of too many digits"},
};

static void
test_spelled_out(void)
{
	const char *reason;
	PfaValue value;
	int i;

	for (i = 0; i < lengthof(numbers); i++)
		check(pfa_value_decode(PFA_KIND_NUMBER, numbers[i].text,
							   strlen(numbers[i].text), batch, &value,
							   &reason) &&
				  !value.isnull && value.ptr == NULL &&
				  value.mantissa == numbers[i].mantissa &&
				  value.scale == numbers[i].scale,
			  "%s", numbers[i].text);
	for (i = 0; i < lengthof(long_numbers); i++)
		check(pfa_value_decode(PFA_KIND_NUMBER, long_numbers[i].text,
							   strlen(long_numbers[i].text), batch, &value,
							   &reason) &&
				  value.ptr != NULL && value.mantissa == 0 &&
				  value.len == strlen(long_numbers[i].canonical) &&
				  memcmp(value.ptr, long_numbers[i].canonical, value.len) == 0,
			  "%s, as text", long_numbers[i].text);
	for (i = 0; i < lengthof(refused); i++)
		check(!pfa_value_decode(PFA_KIND_NUMBER, refused[i].text,
								strlen(refused[i].text), batch, &value,
								&reason) &&
				  strcmp(reason, refused[i].reason) == 0,
			  "%s %s", refused[i].text, refused[i].reason);
}

/* A number of a megabyte costs neither its square nor its memory. */
static void
test_huge(void)
{
	size_t len = 1 << 20;
	char *text = malloc(len);
	const char *reason;
	PfaValue value;
	bool ok;

	pfa_batch_reset(batch);
	memset(text, '9', len);
	ok = !pfa_value_decode(PFA_KIND_NUMBER, text, len, batch, &value,
						   &reason) &&
		strcmp(reason, "is a number of too many digits") == 0;
	check(ok && pfa_batch_bytes(batch) == 0, "a number of a megabyte");
	memset(text, '0', len);
	text[len - 1] = '7';
	check(pfa_value_decode(PFA_KIND_NUMBER, text, len, batch, &value,
						   &reason) &&
			  value.mantissa == 7,
		  "a megabyte of zeros before a seven");
	text[0] = '.';
	check(!pfa_value_decode(PFA_KIND_NUMBER, text, len, batch, &value, &reason),
		  "and behind a point");
	free(text);
}

int
main(int argc, char **argv)
{
	int rounds = argc > 1 ? atoi(argv[1]) : 200000;

	batch = pfa_batch_create();
	regcomp(&grammar, GRAMMAR, REG_EXTENDED | REG_NOSUB);
	test_spelled_out();
	test_random(random_number, rounds / 4, "random numbers");
	test_random(random_garbage, rounds, "random texts of a number's letters");
	test_huge();
	regfree(&grammar);
	pfa_batch_free(batch);
	return end_of_tests();
}
