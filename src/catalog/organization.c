/*
 * organization.c
 *	  One organization with the state of its schedule.
 *
 * Server and role are stored by name, so that pg_dump carries them, and are
 * looked up at each use: either may have been dropped, renamed or created
 * again since.  The schedule's state is a table of its own that is not dumped;
 * without a row an organization is due at once and has never been synced.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "foreign/foreign.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "catalog/pfa_catalog.h"
#include "catalog/spi.h"

/*
 * The interval is taken apart here: a day of it has 24 hours, whatever the
 * time zone of the session makes of a day.
 */
static int64
interval_usecs(uint64 row, int column)
{
	bool isnull;
	Datum value = pfa_spi_get_datum(row, column, &isnull);
	Interval *interval;

	if (isnull)
		return 0;
	interval = DatumGetIntervalP(value);
	return interval->time +
		((int64) interval->month * DAYS_PER_MONTH + interval->day) *
		USECS_PER_DAY;
}

PfaOrganization *
pfa_organization_get(const char *organization_id)
{
	Oid argtypes[1] = {TEXTOID};
	Datum values[1] = {CStringGetTextDatum(organization_id)};
	MemoryContext caller = CurrentMemoryContext;
	PfaOrganization *found = NULL;
	char *owner = NULL;

	if (pfa_spi_execute("SELECT o.organization_id, o.pems_organization, "
						"o.server_name, o.owner, o.sync_interval, o.paused, "
						"o.system_identifier, o.database_oid::int8, "
						"COALESCE(s.next_sync_at, '-infinity'), "
						"s.last_full_at, s.last_success_at, s.failures, "
						"s.watermark, s.mapping_hash, s.layout "
						"FROM @.@.pfa_organization o "
						"LEFT JOIN @.@.pfa_sync_state s "
						"ON s.organization_id = o.organization_id "
						"WHERE o.organization_id = $1",
						1, argtypes, values, NULL, false) > 0)
	{
		found = MemoryContextAllocZero(caller, sizeof(PfaOrganization));
		found->organization_id = pfa_spi_get_text(caller, 0, 1);
		found->pems_organization = pfa_spi_get_text(caller, 0, 2);
		found->server_name = pfa_spi_get_text(caller, 0, 3);
		owner = pfa_spi_get_text(caller, 0, 4);
		found->sync_interval_us = interval_usecs(0, 5);
		found->paused = pfa_spi_get_bool(0, 6);
		found->is_copy = pfa_spi_get_int64(0, 7) !=
				(int64) GetSystemIdentifier() ||
			pfa_spi_get_int64(0, 8) != (int64) MyDatabaseId;
		found->next_sync_at = pfa_spi_get_time(0, 9);
		found->last_full_at = pfa_spi_get_time(0, 10);
		found->last_success_at = pfa_spi_get_time(0, 11);
		found->failures = pfa_spi_get_int32(0, 12);
		found->watermark = pfa_spi_get_text(caller, 0, 13);
		found->mapping_hash = (uint64) pfa_spi_get_int64(0, 14);
		found->layout = pfa_spi_get_text(caller, 0, 15);
	}
	pfa_spi_finish();
	if (found == NULL)
		return NULL;
	found->server_oid = get_foreign_server_oid(found->server_name, true);
	found->owner = get_role_oid(owner, true);
	return found;
}
