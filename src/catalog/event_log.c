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

#include "catalog/pfa_catalog.h"
#include "catalog/spi.h"

static const char *
level_name(int elevel)
{
	if (elevel <= DEBUG1)
		return "debug";
	if (elevel >= ERROR)
		return "error";
	return elevel == WARNING ? "warning" : "info";
}

/*
 * An event is a report, not an error of the caller's: nothing is raised, and
 * only warnings are shown to a client.
 */
static void
write_line(int elevel, const char *component, const char *organization_id,
		   int64 run_id, const char *code, const char *message)
{
	int			shown = elevel <= DEBUG1 ? elevel :
		elevel == WARNING ? WARNING : LOG;
	char	   *where = psprintf("component %s, event %s", component, code);

	if (organization_id != NULL)
		where = psprintf("%s, organization \"%s\"", where, organization_id);
	if (run_id != 0)
		where = psprintf("%s, run %lld", where, (long long) run_id);
	ereport(shown,
			(errmsg_internal("%s", message),
			 errdetail_log("%s.", where),
			 errhidestmt(true)));
}

void
pfa_event_write(int elevel, const char *component,
				const char *organization_id, int64 run_id,
				const char *code, const char *message, const char *context)
{
	Oid			argtypes[7] = {TEXTOID, TEXTOID, TEXTOID, INT8OID, TEXTOID,
	TEXTOID, TEXTOID};
	Datum		values[7];
	char		nulls[7] = {' ', ' ', ' ', ' ', ' ', ' ', ' '};

	write_line(elevel, component, organization_id, run_id, code, message);

	pfa_spi_set_text(values, nulls, 0, level_name(elevel));
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
