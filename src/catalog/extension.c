/*
 * extension.c
 *	  Where the extension is installed.
 *
 * Our objects are found through the extension's row in pg_extension, never by
 * a search for names: a schema or table that merely looks like ours is not
 * ours.  The row is read each time, an index lookup of a few microseconds:
 * before PostgreSQL 18 pg_extension has no syscache that could tell of a
 * change.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/indexing.h"
#include "catalog/pg_extension.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "catalog/extension.h"
#include "catalog/pfa_catalog.h"

#define EXTENSION_NAME "pfa_vanguard"

bool
pfa_extension_read(PfaExtension *extension)
{
	Relation rel;
	SysScanDesc scan;
	ScanKeyData key[1];
	HeapTuple tuple;
	bool found = false;

	memset(extension, 0, sizeof(*extension));
	rel = table_open(ExtensionRelationId, AccessShareLock);
	ScanKeyInit(&key[0], Anum_pg_extension_extname, BTEqualStrategyNumber,
				F_NAMEEQ, CStringGetDatum(EXTENSION_NAME));
	scan = systable_beginscan(rel, ExtensionNameIndexId, true, NULL, 1, key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
	{
		Form_pg_extension form = (Form_pg_extension) GETSTRUCT(tuple);

		extension->oid = form->oid;
		extension->schema = form->extnamespace;
		extension->owner = form->extowner;
		found = true;
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return found;
}

Oid
pfa_extension_oid(bool lock)
{
	PfaExtension extension;
	Oid locked;

	if (!pfa_extension_read(&extension) || !lock)
		return extension.oid;

	/*
	 * It can be dropped, and created again, while the lock is waited for.  The
	 * second look then finds another OID and starts over.
	 */
	for (;;)
	{
		locked = extension.oid;
		LockDatabaseObject(ExtensionRelationId, locked, 0, AccessShareLock);
		if (!pfa_extension_read(&extension))
			extension.oid = InvalidOid;
		if (extension.oid == locked)
			return locked;
		UnlockDatabaseObject(ExtensionRelationId, locked, 0, AccessShareLock);
		if (!OidIsValid(extension.oid))
			return InvalidOid;
	}
}

Oid
pfa_extension_schema(void)
{
	PfaExtension extension;

	if (!pfa_extension_read(&extension))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("extension \"%s\" is not installed in this database",
						EXTENSION_NAME),
				 errhint("Run CREATE EXTENSION %s.", EXTENSION_NAME)));
	return extension.schema;
}

const char *
pfa_extension_schema_quoted(void)
{
	Oid schema = pfa_extension_schema();
	char *name = get_namespace_name(schema);

	if (name == NULL)
		elog(ERROR, "cache lookup failed for schema %u", schema);
	return quote_identifier(name);
}

Oid
pfa_extension_relation(const char *relname)
{
	Oid schema = pfa_extension_schema();
	Oid relid = get_relname_relid(relname, schema);

	if (!OidIsValid(relid))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("relation \"%s\" of extension \"%s\" does not exist",
						relname, EXTENSION_NAME),
				 errhint("Update it with ALTER EXTENSION %s UPDATE.",
						 EXTENSION_NAME)));
	return relid;
}
