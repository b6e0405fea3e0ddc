/*
 * number.c
 *	  Decimal numbers, exactly.
 *
 * Nearly all are short, so the digits are added up while the grammar is
 * checked; a number with an exponent or with more than 18 digits is put
 * together from its digits in a second step.  Either way equal numbers end as
 * equal values, however they were spelled.
 */
#include "record/record.h"

#include <string.h>

#include "record/decode.h"

#define MAX_MANTISSA_DIGITS 18
#define MAX_EXPONENT        9999 /* past any number that is accepted */

/* A number taken apart. */
typedef struct Parts
{
	const char *whole; /* with separators */
	const char *whole_end;
	const char *fraction;
	const char *fraction_end;
	int exponent;
	bool negative;
} Parts;

/* Its digits, without zeros at either end: digits * 10^shift. */
typedef struct Digits
{
	int n;
	int64_t shift;
	char digits[PFA_NUMBER_MAX_DIGITS];
} Digits;

static inline bool
is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/*
 * Groups of three digits behind a first one of one to three, which is not a
 * zero: 0,125 is somebody's decimal comma.
 */
static bool
separators_fit(const char *p, const char *end)
{
	const char *start = p;
	size_t group = 0;
	bool first = true;

	if (*p == '0' && memchr(p, ',', (size_t) (end - p)) != NULL)
		return false;
	for (;; p++)
	{
		if (p < end && *p != ',')
		{
			group++;
			continue;
		}
		if (p == end && first)
			return p > start;
		if (group == 0 || group > 3 || (!first && group != 3))
			return false;
		if (p == end)
			return true;
		first = false;
		group = 0;
	}
}

static const char *
parse_exponent(const char *p, const char *end, int *exponent)
{
	bool negative = false;
	const char *start;

	if (p < end && (*p == '+' || *p == '-'))
		negative = *p++ == '-';
	start = p;
	*exponent = 0;
	for (; p < end && is_digit(*p); p++)
	{
		if (*exponent < MAX_EXPONENT)
			*exponent = *exponent * 10 + (*p - '0');
	}
	if (negative)
		*exponent = -*exponent;
	return p == start ? NULL : p;
}

/* False where it is not a number by the grammar. */
static bool
parse_parts(const char *p, const char *end, Parts *parts, bool *separated)
{
	memset(parts, 0, sizeof(*parts));
	*separated = false;
	if (*p == '-' || *p == '+')
		parts->negative = *p++ == '-';
	parts->whole = p;
	for (; p < end && (is_digit(*p) || *p == ','); p++)
		*separated |= *p == ',';
	parts->whole_end = p;
	if (p < end && *p == '.')
		p++;
	parts->fraction = p;
	while (p < end && is_digit(*p))
		p++;
	parts->fraction_end = p;
	if (parts->whole == parts->whole_end && parts->fraction == p)
		return false;
	if (p < end && (*p == 'e' || *p == 'E'))
		p = parse_exponent(p + 1, end, &parts->exponent);
	return p == end;
}

/* Append digits, leaving out separators and zeros at the beginning. */
static bool
append_digits(Digits *all, const char *p, const char *end)
{
	for (; p < end; p++)
	{
		if (*p == ',' || (*p == '0' && all->n == 0))
			continue;
		if (all->n == PFA_NUMBER_MAX_DIGITS)
			return false;
		all->digits[all->n++] = *p;
	}
	return true;
}

static bool
collect_digits(const Parts *parts, Digits *all)
{
	const char *fraction_end = parts->fraction_end;

	while (fraction_end > parts->fraction && fraction_end[-1] == '0')
		fraction_end--;
	all->n = 0;
	if (!append_digits(all, parts->whole, parts->whole_end) ||
		!append_digits(all, parts->fraction, fraction_end))
		return false;
	all->shift = parts->exponent - (fraction_end - parts->fraction);
	while (all->n > 0 && all->digits[all->n - 1] == '0')
	{
		all->n--;
		all->shift++;
	}
	if (all->n == 0)
		all->shift = 0;
	return all->shift >= -PFA_NUMBER_MAX_DIGITS &&
		all->n + all->shift <= PFA_NUMBER_MAX_DIGITS;
}

static void
set_mantissa(const Digits *all, bool negative, PfaValue *value)
{
	int64_t mantissa = 0;
	int64_t zeros;
	int i;

	for (i = 0; i < all->n; i++)
		mantissa = mantissa * 10 + (all->digits[i] - '0');
	for (zeros = all->shift; zeros > 0; zeros--)
		mantissa *= 10;
	value->mantissa = negative ? -mantissa : mantissa;
	value->scale = (int16_t) (all->shift < 0 ? -all->shift : 0);
}

/* -digits.digits, with a zero before the point where there is no other */
static bool
set_text(const Digits *all, bool negative, PfaBatch *batch, PfaValue *value)
{
	int whole = all->n + (int) all->shift; /* digits before the point */
	char *text;
	char *out;
	int i;

	out = text = pfa_batch_alloc(batch, 2 * PFA_NUMBER_MAX_DIGITS + 4);
	if (text == NULL)
		return false;
	if (negative)
		*out++ = '-';
	for (i = 0; i < whole; i++)
		*out++ = i < all->n ? all->digits[i] : '0';
	if (all->shift < 0)
	{
		if (whole <= 0)
			*out++ = '0';
		*out++ = '.';
		for (i = whole; i < all->n; i++)
			*out++ = i < 0 ? '0' : all->digits[i];
	}
	value->ptr = text;
	value->len = (uint32_t) (out - text);
	return true;
}

/* Any number, without haste. */
static bool
decode_any(const char *text, size_t len, PfaBatch *batch, PfaValue *value,
		   const char **reason)
{
	Parts parts;
	Digits all;
	bool separated;

	if (!parse_parts(text, text + len, &parts, &separated))
	{
		*reason = "is not a number";
		return false;
	}
	if (separated && !separators_fit(parts.whole, parts.whole_end))
	{
		*reason = "is not a number: its separators are not between thousands";
		return false;
	}
	if (!collect_digits(&parts, &all))
	{
		*reason = "is a number of too many digits";
		return false;
	}
	if (all.n + (all.shift > 0 ? all.shift : 0) <= MAX_MANTISSA_DIGITS)
	{
		set_mantissa(&all, parts.negative, value);
		return true;
	}
	return set_text(&all, parts.negative, batch, value);
}

/*
 * Digits and at most one point.  False: to be read by decode_any, for
 * whatever reason.
 */
static bool
decode_short(const char *p, const char *end, PfaValue *value)
{
	bool negative = *p == '-';
	int64_t mantissa = 0;
	int64_t exact;
	int scale = 0;
	int exact_scale = 0;

	p += negative;
	if (p == end || end - p > MAX_MANTISSA_DIGITS || !is_digit(*p))
		return false;
	for (; p < end && is_digit(*p); p++)
		mantissa = mantissa * 10 + (*p - '0');
	exact = mantissa;
	if (p < end && *p == '.')
	{
		for (p++; p < end && is_digit(*p); p++)
		{
			mantissa = mantissa * 10 + (*p - '0');
			scale++;
			if (*p != '0')
			{
				exact = mantissa;
				exact_scale = scale;
			}
		}
	}
	if (p != end)
		return false;
	value->mantissa = negative ? -exact : exact;
	value->scale = (int16_t) exact_scale;
	return true;
}

bool
pfa_number_decode(const char *text, size_t len, PfaBatch *batch,
				  PfaValue *value, const char **reason)
{
	return decode_short(text, text + len, value) ||
		decode_any(text, len, batch, value, reason);
}
