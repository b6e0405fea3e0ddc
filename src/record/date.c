/*
 * date.c
 *	  Dates in the spellings of PEMS, to days since 2000-01-01.
 *
 *		2025-03-15, 15-MAR-2025, 03/15/2025
 *
 * A time of day may follow, with a zone: it must be one, but says nothing, as
 * PEMS's dates are days, whatever the clock of who wrote them.
 */
#include "record/record.h"

#include <string.h>

#include "record/decode.h"

typedef struct Civil
{
	int year;
	int month;
	int day;
} Civil;

/* Up to max digits at *p, which is left behind them; -1 if there are none. */
static int
take_number(const char **p, const char *end, int max)
{
	const char *start = *p;
	int value = 0;

	while (*p < end && *p - start < max && **p >= '0' && **p <= '9')
		value = value * 10 + (*(*p)++ - '0');
	return *p == start ? -1 : value;
}

/* Exactly n digits. */
static int
take_digits(const char **p, const char *end, int n)
{
	const char *start = *p;
	int value = take_number(p, end, n);

	return *p - start == n ? value : -1;
}

static bool
take_char(const char **p, const char *end, char c)
{
	if (*p == end || **p != c)
		return false;
	(*p)++;
	return true;
}

/* MAR or MARCH, any case; 0 if it is none. */
static int
take_month(const char **p, const char *end)
{
	static const char *const names[] = {"january", "february", "march",
										"april",   "may",      "june",
										"july",    "august",   "september",
										"october", "november", "december"};
	size_t len = 0;
	int month;
	size_t i;

	while (*p + len < end && ((*p)[len] | 0x20) >= 'a' &&
		   ((*p)[len] | 0x20) <= 'z')
		len++;
	for (month = 1; month <= 12; month++)
	{
		const char *name = names[month - 1];

		for (i = 0; i < len && ((*p)[i] | 0x20) == name[i]; i++)
			;
		if (i == len && (len == 3 || name[len] == '\0'))
		{
			*p += len;
			return month;
		}
	}
	return 0;
}

/* The day at the beginning of the text; NULL if it is none. */
static const char *
take_day(const char *text, const char *end, Civil *civil)
{
	const char *p = text;

	civil->year = take_digits(&p, end, 4);
	if (civil->year >= 0)
	{
		if (!take_char(&p, end, '-') ||
			(civil->month = take_digits(&p, end, 2)) < 0 ||
			!take_char(&p, end, '-') ||
			(civil->day = take_digits(&p, end, 2)) < 0)
			return NULL;
		return p;
	}
	p = text;
	civil->day = take_number(&p, end, 2);
	if (civil->day < 0)
		return NULL;
	if (take_char(&p, end, '/'))
	{
		civil->month = civil->day;
		civil->day = take_number(&p, end, 2);
		if (civil->day < 0 || !take_char(&p, end, '/'))
			return NULL;
	}
	else if (!take_char(&p, end, '-') ||
			 (civil->month = take_month(&p, end)) == 0 ||
			 !take_char(&p, end, '-'))
		return NULL;
	civil->year = take_digits(&p, end, 4);
	return civil->year < 0 ? NULL : p;
}

/* Z, +hh, +hhmm or +hh:mm */
static bool
take_zone(const char **p, const char *end)
{
	int hours;
	int minutes = 0;

	if (take_char(p, end, 'Z') || take_char(p, end, 'z'))
		return true;
	if (!take_char(p, end, '+') && !take_char(p, end, '-'))
		return true;
	hours = take_digits(p, end, 2);
	if (*p < end)
	{
		take_char(p, end, ':');
		minutes = take_digits(p, end, 2);
	}
	return hours >= 0 && hours <= 15 && minutes >= 0 && minutes <= 59;
}

/* AM or PM behind an hour that allows it; nothing is fine, too. */
static bool
take_half_of_day(const char **p, const char *end, int hour)
{
	const char *at = *p;
	char c;

	take_char(&at, end, ' ');
	if (end - at < 2)
		return true;
	c = at[0] | 0x20;
	if ((c != 'a' && c != 'p') || (at[1] | 0x20) != 'm')
		return true;
	*p = at + 2;
	return hour >= 1 && hour <= 12;
}

/* hh:mm, hh:mm:ss, hh:mm:ss.fraction, to the end of the text */
static bool
is_time(const char *p, const char *end)
{
	int hour = take_number(&p, end, 2);
	int minute;
	int second = 0;

	if (hour < 0 || hour > 23 || !take_char(&p, end, ':'))
		return false;
	minute = take_digits(&p, end, 2);
	if (minute < 0 || minute > 59)
		return false;
	if (take_char(&p, end, ':'))
	{
		second = take_digits(&p, end, 2);
		if (second < 0 || second > 60)
			return false;
		if (take_char(&p, end, '.') && take_number(&p, end, 9) < 0)
			return false;
	}
	return take_half_of_day(&p, end, hour) && take_zone(&p, end) && p == end;
}

static bool
is_leap(int year)
{
	return year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
}

static bool
is_civil(const Civil *civil)
{
	static const int8_t lengths[] = {31, 28, 31, 30, 31, 30,
									 31, 31, 30, 31, 30, 31};

	if (civil->year < 1 || civil->month < 1 || civil->month > 12 ||
		civil->day < 1)
		return false;
	return civil->day <=
		lengths[civil->month - 1] + (civil->month == 2 && is_leap(civil->year));
}

static int32_t
civil_days(const Civil *civil)
{
	static const int16_t before[] = {0,   31,  59,  90,  120, 151,
									 181, 212, 243, 273, 304, 334};
	int past = civil->year - 1; /* complete years of the era */
	int32_t days = past * 365 + past / 4 - past / 100 + past / 400;

	days += before[civil->month - 1] + civil->day - 1;
	days += civil->month > 2 && is_leap(civil->year);
	return days - 730119; /* 0001-01-01 to 2000-01-01 */
}

bool
pfa_date_decode(const char *text, size_t len, PfaValue *value,
				const char **reason)
{
	const char *end = text + len;
	const char *p;
	Civil civil;

	p = take_day(text, end, &civil);
	if (p == NULL || (p < end && *p != 'T' && *p != 't' && *p != ' '))
		*reason = "is not a date";
	else if (!is_civil(&civil))
		*reason = "is not a day of the calendar";
	else if (p < end && !is_time(p + 1, end))
		*reason = "is a date with an invalid time of day";
	else
	{
		value->days = civil_days(&civil);
		return true;
	}
	return false;
}
