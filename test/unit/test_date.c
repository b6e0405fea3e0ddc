/*
 * test_date.c
 *	  Every day of the calendar in every spelling, and what is none.
 *
 * The oracle counts: it walks from 0001-01-01 day by day, month by month.
 */
#include "record/record.h"

#include <regex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tap.h"

#define TIME \
	"^([01]?[0-9]|2[0-3]):[0-5][0-9](:([0-5][0-9]|60)" \
	"(\\.[0-9]{1,9})?)?(Z|z|[+-](0[0-9]|1[0-5])(:?[0-5][0-9])?)?$"

static const char *const months[] = {"Jan", "FEB",     "mar",  "Apr",
									 "may", "JUN",     "july", "AUGUST",
									 "Sep", "October", "nov",  "dec"};

static bool
decode(const char *text, int32_t *days, const char **reason)
{
	PfaValue value;

	if (!pfa_value_decode(PFA_KIND_DATE, text, strlen(text), NULL, &value,
						  reason))
		return false;
	*days = value.days;
	return !value.isnull;
}

/* The four spellings of a day; those numbers may have one digit. */
static void
spell(char text[4][64], int year, int month, int day)
{
	snprintf(text[0], 64, "%04d-%02d-%02d", year, month, day);
	snprintf(text[1], 64, "%04d-%02d-%02dT23:59:59", year, month, day);
	snprintf(text[2], 64, day % 2 ? "%02d-%s-%04d" : "%d-%s-%04d", day,
			 month >= 1 && month <= 12 ? months[month - 1] : "xyz", year);
	snprintf(text[3], 64, day % 2 ? "%02d/%02d/%04d" : "%d/%d/%04d", month, day,
			 year);
}

/*
 * All combinations of a year's months and days, existing ones and others.
 * *count is the number of days before.
 */
static bool
check_year(int year, int32_t *count)
{
	static const int lengths[] = {31, 28, 31, 30, 31, 30,
								  31, 31, 30, 31, 30, 31};
	bool leap = year % 400 == 0 || (year % 100 != 0 && year % 4 == 0);
	char text[4][64];
	const char *reason;
	int month;
	int day;
	int i;

	for (month = 0; month <= 13; month++)
	{
		int length = month < 1 || month > 12 ? 0 :
			month == 2 && leap               ? 29 :
											   lengths[month - 1];

		for (day = 0; day <= 32; day++)
		{
			bool exists = day >= 1 && day <= length;

			spell(text, year, month, day);
			for (i = 0; i < 4; i++)
			{
				int32_t days = INT32_MIN;

				if (decode(text[i], &days, &reason) != exists ||
					(exists && days != *count))
				{
					printf("# %s: %d\n", text[i], days);
					return false;
				}
			}
			*count += exists;
		}
	}
	return true;
}

static void
test_calendar(void)
{
	int32_t count = -730119; /* to 2000-01-01, by the server */
	int year;
	bool ok = true;

	for (year = 1; year <= 9999 && ok; year++)
		ok = check_year(year, &count);
	check(ok, "every day of the years 1 to 9999 in four spellings");
	check(ok && count == 2921940, "of which there are as many as there are");
}

static const struct
{
	const char *text;
	const char *reason; /* NULL: it is a date */
} dates[] = {
	{" 2025-03-15 ", NULL},
	{"2025-03-15 10:11", NULL},
	{"2025-03-15T10:11:12.123456Z", NULL},
	{"2025-03-15T10:11:12+05:45", NULL},
	{"2025-03-15t23:59:60-0800", NULL},
	{"03/15/2025 12:00:00 AM", NULL},
	{"15-mar-2025 1:30pm", NULL},
	{"2025-02-31", "is not a day of the calendar"},
	{"2025-02-29", "is not a day of the calendar"},
	{"0000-01-01", "is not a day of the calendar"},
	{"2025-00-10", "is not a day of the calendar"},
	{"15/03/2025", "is not a day of the calendar"},
	{"2025-3-5", "is not a date"},
	{"2025-03", "is not a date"},
	{"20250315", "is not a date"},
	{"15-MAR-25", "is not a date"},
	{"03/15/25", "is not a date"},
	{"15-MAE-2025", "is not a date"},
	{"15-MARC-2025", "is not a date"},
	{"15-M-2025", "is not a date"},
	{"15--2025", "is not a date"},
	{"15.03.2025", "is not a date"},
	{"-2025-03-15", "is not a date"},
	{"2025-03-15x", "is not a date"},
	{"12025-03-15", "is not a date"},
	{"today", "is not a date"},
	{"1741996800", "is not a date"},
	{"infinity", "is not a date"},
	{"2025-03-15T", "is a date with an invalid time of day"},
	{"2025-03-15 24:00", "is a date with an invalid time of day"},
	{"2025-03-15 10", "is a date with an invalid time of day"},
	{"2025-03-15 10:60", "is a date with an invalid time of day"},
	{"2025-03-15 10:00:61", "is a date with an invalid time of day"},
	{"2025-03-15 10:00:00.", "is a date with an invalid time of day"},
	{"2025-03-15 13:00 PM", "is a date with an invalid time of day"},
	{"2025-03-15 0:00 AM", "is a date with an invalid time of day"},
	{"2025-03-15T10:00+1", "is a date with an invalid time of day"},
	{"2025-03-15T10:00+16:00", "is a date with an invalid time of day"},
	{"2025-03-15T10:00Zulu", "is a date with an invalid time of day"},
	{"2025-03-15 - 2025-03-16", "is a date with an invalid time of day"},
};

static void
test_spelled_out(void)
{
	int i;

	for (i = 0; i < lengthof(dates); i++)
	{
		const char *reason = NULL;
		int32_t days;
		bool ok = decode(dates[i].text, &days, &reason);

		if (dates[i].reason == NULL)
			check(ok && days == 9205, "%s", dates[i].text);
		else
			check(!ok && strcmp(reason, dates[i].reason) == 0, "%s %s",
				  dates[i].text, dates[i].reason);
	}
}

static void
test_random_times(int rounds)
{
	static const char bytes[] = "0001122345699::::.+-Z";
	static const char *const bases[] = {"10:11:12.5+05:30", "9:00Z",
										"23:59:59"};
	regex_t grammar;
	bool ok = true;
	int naccepted = 0;
	int i;

	regcomp(&grammar, TIME, REG_EXTENDED | REG_NOSUB);
	for (i = 0; i < rounds && ok; i++)
	{
		char text[64] = "2025-03-15T";
		char *time = text + strlen(text);
		const char *reason;
		size_t changes;
		int32_t days;
		bool decoded;

		strcpy(time, bases[random_below(lengthof(bases))]);
		for (changes = random_below(4); changes > 0; changes--)
		{
			size_t at = random_below(strlen(time) + 1);
			size_t rest = strlen(time + at);

			switch (random_below(3))
			{
				case 0:
					memmove(time + at + 1, time + at, rest + 1);
					time[at] = bytes[random_below(sizeof(bytes) - 1)];
					break;
				case 1:
					if (rest > 0)
						memmove(time + at, time + at + 1, rest);
					break;
				default:
					if (rest > 0)
						time[at] = bytes[random_below(sizeof(bytes) - 1)];
					break;
			}
		}
		decoded = decode(text, &days, &reason);
		naccepted += decoded;
		ok = decoded == (regexec(&grammar, time, 0, NULL, 0) == 0);
		if (!ok)
			printf("# %s\n", text);
	}
	regfree(&grammar);
	check(ok && naccepted > rounds / 10, "%d random times", rounds);
}

int
main(void)
{
	test_spelled_out();
	test_calendar();
	test_random_times(200000);
	return end_of_tests();
}
