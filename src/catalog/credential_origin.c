/*
 * credential_origin.c
 *	  Table pfa_credential_origin: where credentials may be sent.
 *
 * The owner of a server cannot read the credentials of others, but could have
 * them delivered to himself by another base_url.  So they are bound to scheme,
 * host and port.  Rows are keyed by names, as they are dumped and the objects
 * get other OIDs when restored.  A row may outlive its mapping; the worst that
 * comes of it is an error that says how to bind again.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"

#include "catalog/credential_origin.h"
#include "catalog/pfa_catalog.h"
#include "catalog/spi.h"

static Datum
name_datum(const char *name)
{
	return DirectFunctionCall1(namein, CStringGetDatum(name));
}

char *
pfa_credential_origin_get(const char *server, const char *role)
{
	MemoryContext caller = CurrentMemoryContext;
	Oid argtypes[2] = {NAMEOID, NAMEOID};
	Datum values[2];
	char *origin = NULL;

	values[0] = name_datum(server);
	values[1] = name_datum(role);
	if (pfa_spi_execute("SELECT origin FROM @.@.pfa_credential_origin "
						"WHERE server_name OPERATOR(pg_catalog.=) $1 "
						"AND role_name OPERATOR(pg_catalog.=) $2",
						2, argtypes, values, NULL, false) > 0)
		origin = pfa_spi_get_text(caller, 0, 1);
	pfa_spi_finish();
	return origin;
}

void
pfa_credential_origin_add(const char *server, const char *role,
						  const char *origin)
{
	Oid argtypes[3] = {NAMEOID, NAMEOID, TEXTOID};
	Datum values[3];

	values[0] = name_datum(server);
	values[1] = name_datum(role);
	values[2] = CStringGetTextDatum(origin);
	pfa_spi_run("INSERT INTO @.@.pfa_credential_origin "
				"(server_name, role_name, origin) VALUES ($1, $2, $3) "
				"ON CONFLICT (server_name, role_name) DO NOTHING",
				3, argtypes, values, NULL);
}

void
pfa_credential_origin_set(const char *server, const char *role,
						  const char *origin)
{
	Oid argtypes[3] = {NAMEOID, NAMEOID, TEXTOID};
	Datum values[3];

	values[0] = name_datum(server);
	values[1] = name_datum(role);
	values[2] = CStringGetTextDatum(origin);
	pfa_spi_run("INSERT INTO @.@.pfa_credential_origin AS o "
				"(server_name, role_name, origin) VALUES ($1, $2, $3) "
				"ON CONFLICT (server_name, role_name) DO UPDATE "
				"SET origin = EXCLUDED.origin, "
				"bound_at = pg_catalog.clock_timestamp() "
				"WHERE o.origin OPERATOR(pg_catalog.<>) EXCLUDED.origin",
				3, argtypes, values, NULL);
}
