/*
 * answer.h
 *	  A mapping, and what a parser made of an answer, as text.
 *
 * The text tells result, records, rejects and layout, so that two ways of
 * feeding an answer can be compared as a whole.
 */
#ifndef PFA_TEST_ANSWER_H
#define PFA_TEST_ANSWER_H

#include "record/grid_parser.h"

#include <stdarg.h>
#include <stdio.h>

static PfaField fields[] = {
	{"pfs_id", "pfaId", PFA_KIND_TEXT, NULL, 0},
	{"pfs_a_org", "organization", PFA_KIND_TEXT, NULL, 0},
	{"description", "description", PFA_KIND_TEXT, NULL, 0},
	{"pfs_f_source", "source", PFA_KIND_TEXT, "Rental", 0},
	{"pfs_f_rental", "monthlyRate", PFA_KIND_NUMBER, NULL, 0},
	{"pfs_f_startdate", "forecastStart", PFA_KIND_DATE, NULL, 0},
	{"pfs_f_actualized", "isActualized", PFA_KIND_BOOLEAN, NULL, 0},
	{"pfs_lastmodified", "pemsVersion", PFA_KIND_TEXT, NULL, 0},
};
static PfaMapping mapping = {sizeof(fields) / sizeof(fields[0]), fields};

static char summary[65536];
static size_t summary_len;

static void
say(const char *fmt, ...)
{
	va_list args;
	size_t room = sizeof(summary) - summary_len;
	int n;

	va_start(args, fmt);
	n = vsnprintf(summary + summary_len, room, fmt, args);
	va_end(args);
	summary_len += (size_t) n < room ? (size_t) n : room - 1;
}

static void
say_value(const PfaField *field, const PfaValue *value)
{
	if (value->isnull)
		return;
	say(" %s=", field->key);
	if (field->kind == PFA_KIND_TEXT || value->ptr != NULL)
		say("%.*s", (int) value->len, value->ptr);
	else if (field->kind == PFA_KIND_NUMBER)
		say("%lld/%d", (long long) value->mantissa, value->scale);
	else if (field->kind == PFA_KIND_DATE)
		say("%d", value->days);
	else
		say("%s", value->boolean ? "true" : "false");
}

static void
say_all(const PfaGridParser *parser, PfaBatch *batch,
		const PfaGridLayout *layout)
{
	static const char *const names[] = {"MORE",      "DONE",
										"ALERT",     "NEEDS_LAYOUT",
										"MALFORMED", "OUT_OF_MEMORY"};
	const PfaGridResult *result = pfa_grid_parser_result(parser);
	const char *first = pfa_grid_parser_first_id(parser);
	const char *last = pfa_grid_parser_last_id(parser);
	int i;
	int k;

	say("%s", names[result->status]);
	if (result->error[0] != '\0')
		say(" [%s]", result->error);
	say(" rows=%lld foreign=%lld total=%lld cursor=%lld more=%d grid=%d "
		"asc=%d first=%s last=%s layout=%d\n",
		(long long) result->nrows, (long long) result->nforeign,
		(long long) result->total, (long long) result->cursor, result->more,
		result->has_grid, result->ascending, first ? first : "-",
		last ? last : "-", pfa_grid_layout_size(layout));
	for (i = 0; i < pfa_batch_nrecords(batch); i++)
	{
		const PfaRecord *record = &pfa_batch_records(batch)[i];

		say("record %.*s", (int) record->id_len, record->id);
		for (k = 0; k < mapping.nfields; k++)
			say_value(&fields[k], &record->values[k]);
		say("\n");
	}
	for (i = 0; i < pfa_batch_nrejects(batch); i++)
		say("reject <%s> %s\n", pfa_batch_rejects(batch)[i].id,
			pfa_batch_rejects(batch)[i].reason);
}

#endif /* PFA_TEST_ANSWER_H */
