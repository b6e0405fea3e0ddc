/*
 * event_log.c
 *	  What happened, for operators: a row, and a line in the server log.
 *
 * The row belongs to the caller's transaction and goes with it; the line is
 * written at once, so that a failure that takes the transaction with it has
 * left a trace.  Neither may hold a secret: callers pass messages that users
 * may read.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "catalog/event_log.h"
#include "catalog/pfa_catalog.h"
#include "catalog/spi.h"
#include "metrics/counters.h"

static PfaEventLevel
level_of(int elevel)
{
	if (elevel <= DEBUG1)
		return PFA_LEVEL_DEBUG;
	if (elevel >= ERROR)
		return PFA_LEVEL_ERROR;
	return elevel == WARNING ? PFA_LEVEL_WARNING : PFA_LEVEL_INFO;
}

/*
 * An event is a report, not an error of the caller's: nothing is raised, and
 * only warnings are shown to a client.
 */
static void
write_line(int elevel, const char *component, const char *organization_id,
		   int64 run_id, const char *code, const char *message)
{
	int shown = elevel <= DEBUG1 ? elevel : elevel == WARNING ? WARNING : LOG;
	char *where = psprintf("component %s, event %s", component, code);

	if (organization_id != NULL)
		where = psprintf("%s, organization \"%s\"", where, organization_id);
	if (run_id != 0)
		where = psprintf("%s, run %lld", where, (long long) run_id);
	ereport(shown,
			(errmsg_internal("%s", message), errdetail_log("%s.", where),
			 errhidestmt(true)));
}

void
pfa_event_write(int elevel, const char *component, const char *organization_id,
				int64 run_id, const char *code, const char *message,
				const char *context)
{
	Oid argtypes[7] = {TEXTOID, TEXTOID, TEXTOID, INT8OID,
					   TEXTOID, TEXTOID, TEXTOID};
	Datum values[7];
	char nulls[7] = {' ', ' ', ' ', ' ', ' ', ' ', ' '};

	write_line(elevel, component, organization_id, run_id, code, message);
	pfa_metrics_event(level_of(elevel));

	pfa_spi_set_text(values, nulls, 0, pfa_event_level_name(level_of(elevel)));
	pfa_spi_set_text(values, nulls, 1, component);
	pfa_spi_set_text(values, nulls, 2, organization_id);
	values[3] = Int64GetDatum(run_id);
	nulls[3] = run_id == 0 ? 'n' : ' ';
	pfa_spi_set_text(values, nulls, 4, code);
	pfa_spi_set_text(values, nulls, 5, message);
	pfa_spi_set_text(values, nulls, 6, context);
	(void) pfa_spi_run("INSERT INTO @.@.pfa_event_log "
					   "(level, component, organization_id, run_id, code, "
					   "message, context) "
					   "VALUES ($1, $2, $3, $4, $5, $6, $7::jsonb)",
					   7, argtypes, values, nulls);
}

/* ---- events that came through the ring ---- */

static const char *
or_null(const char *text)
{
	return text[0] == '\0' ? NULL : text;
}

/* repeats is told where it says something. */
#define WITH_REPEATS(context, repeats) \
	"CASE WHEN " repeats " > 1 THEN COALESCE(" context ", '{}') " \
	"|| pg_catalog.jsonb_build_object('repeats', " repeats ") " \
	"ELSE " context " END"

int64
pfa_event_insert(const PfaEvent *event)
{
	Oid argtypes[9] = {TEXTOID, TEXTOID, TEXTOID,        INT8OID, TEXTOID,
					   TEXTOID, TEXTOID, TIMESTAMPTZOID, INT8OID};
	Datum values[9];
	char nulls[9] = {' ', ' ', ' ', ' ', ' ', ' ', ' ', ' ', ' '};
	int64 event_id;

	pfa_spi_set_text(values, nulls, 0, pfa_event_level_name(event->level));
	pfa_spi_set_text(values, nulls, 1, event->component);
	pfa_spi_set_text(values, nulls, 2, or_null(event->organization_id));
	values[3] = Int64GetDatum(event->run_id);
	nulls[3] = event->run_id == 0 ? 'n' : ' ';
	pfa_spi_set_text(values, nulls, 4, event->code);
	pfa_spi_set_text(values, nulls, 5, event->message);
	pfa_spi_set_text(values, nulls, 6, or_null(event->context));
	values[7] = TimestampTzGetDatum(event->at);
	values[8] = Int64GetDatum(event->repeats);
	(void) pfa_spi_execute("INSERT INTO @.@.pfa_event_log "
						   "(level, component, organization_id, run_id, code, "
						   "message, context, logged_at) "
						   "VALUES ($1, $2, $3, $4, $5, $6, " WITH_REPEATS(
							   "$7::jsonb", "$9") ", $8) "
												  "RETURNING event_id",
						   9, argtypes, values, nulls, false);
	event_id = pfa_spi_get_int64(0, 1);
	pfa_spi_finish();
	return event_id;
}

bool
pfa_event_repeat(int64 event_id, int64 repeats)
{
	Oid argtypes[2] = {INT8OID, INT8OID};
	Datum values[2] = {Int64GetDatum(event_id), Int64GetDatum(repeats)};

	return pfa_spi_run(
			   "UPDATE @.@.pfa_event_log SET context = "
			   "COALESCE(context, '{}') || pg_catalog.jsonb_build_object("
			   "'repeats', COALESCE((context ->> 'repeats')::bigint, 1) + $2, "
			   "'last_at', pg_catalog.now()) WHERE event_id = $1",
			   2, argtypes, values, NULL) > 0;
}

void
pfa_event_line(const PfaEvent *event)
{
	static const int elevels[PFA_NLEVELS] = {DEBUG1, LOG, WARNING, ERROR};

	write_line(elevels[event->level], event->component,
			   or_null(event->organization_id), event->run_id, event->code,
			   event->message);
}
