/*
 * mirror_sql.c
 *	  Write pfa_mirror by SQL statements.
 *
 * Slower than mirror.c by half, but whatever a user has attached to the table
 * takes part: triggers, with their transition tables, rules, constraints,
 * foreign keys, added columns.  A batch is one statement, its rows an ephemeral
 * relation that the statement reads.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "lib/stringinfo.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/queryenvironment.h"
#include "utils/tuplestore.h"

#include "catalog/mirror.h"

#define BATCH_NAME "pfa_batch"

static const char *
table_name(PfaMirror *mirror)
{
	return quote_qualified_identifier(get_namespace_name(
										  RelationGetNamespace(mirror->rel)),
									  RelationGetRelationName(mirror->rel));
}

static const char *
column_name(PfaMirror *mirror, int i)
{
	TupleDesc desc = RelationGetDescr(mirror->rel);

	return quote_identifier(NameStr(TupleDescAttr(desc, i)->attname));
}

static void
check_code(int code, int expected)
{
	if (code != expected)
		elog(ERROR, "SPI call failed: %s", SPI_result_code_string(code));
}

static void
run_with_batch(PfaMirror *mirror, const char *text, int code,
			   Tuplestorestate *rows)
{
	EphemeralNamedRelationData batch = {0};

	check_code(SPI_connect(), SPI_OK_CONNECT);
	batch.md.name = BATCH_NAME;
	batch.md.reliddesc = InvalidOid;
	batch.md.tupdesc = mirror->own_columns;
	batch.md.enrtype = ENR_NAMED_TUPLESTORE;
	batch.md.enrtuples = tuplestore_tuple_count(rows);
	batch.reldata = rows;
	check_code(SPI_register_relation(&batch), SPI_OK_REL_REGISTER);
	check_code(SPI_execute(text, false, 0), code);
	check_code(SPI_finish(), SPI_OK_FINISH);
}

void
pfa_mirror_sql_insert(PfaMirror *mirror, Tuplestorestate *rows)
{
	StringInfoData text;
	StringInfoData list;

	initStringInfo(&list);
	for (int i = 0; i < PFA_MIRROR_NATTS; i++)
		appendStringInfo(&list, "%s%s", i == 0 ? "" : ", ",
						 column_name(mirror, i));
	initStringInfo(&text);
	appendStringInfo(&text, "INSERT INTO %s (%s) SELECT %s FROM %s",
					 table_name(mirror), list.data, list.data, BATCH_NAME);
	run_with_batch(mirror, text.data, SPI_OK_INSERT, rows);
}

void
pfa_mirror_sql_update(PfaMirror *mirror, Tuplestorestate *rows)
{
	StringInfoData text;

	initStringInfo(&text);
	appendStringInfo(&text, "UPDATE %s AS m SET ", table_name(mirror));
	for (int i = PFA_MIRROR_DATA - 1; i < PFA_MIRROR_NATTS; i++)
	{
		const char *name = column_name(mirror, i);

		if (i == PFA_MIRROR_VERSION - 1)
			appendStringInfo(&text, "%s = m.%s OPERATOR(pg_catalog.+) 1, ",
							 name, name);
		else
			appendStringInfo(&text, "%s = b.%s%s", name, name,
							 i == PFA_MIRROR_NATTS - 1 ? "" : ", ");
	}
	appendStringInfo(
		&text,
		" FROM %s AS b"
		" WHERE m.organization_id OPERATOR(pg_catalog.=) b.organization_id"
		" AND m.pfa_id OPERATOR(pg_catalog.=) b.pfa_id",
		BATCH_NAME);
	run_with_batch(mirror, text.data, SPI_OK_UPDATE, rows);
}

int64
pfa_mirror_sql_delete(PfaMirror *mirror, const char **ids, int nids)
{
	StringInfoData text;
	Oid types[2] = {TEXTOID, TEXTARRAYOID};
	Datum values[2];
	Datum *elements = palloc(nids * sizeof(Datum));
	int64 ndeleted;

	for (int i = 0; i < nids; i++)
		elements[i] = CStringGetTextDatum(ids[i]);
	values[0] = mirror->organization;
	values[1] = PointerGetDatum(
		construct_array(elements, nids, TEXTOID, -1, false, TYPALIGN_INT));
	initStringInfo(&text);
	appendStringInfo(&text,
					 "DELETE FROM %s"
					 " WHERE organization_id OPERATOR(pg_catalog.=) $1"
					 " AND pfa_id OPERATOR(pg_catalog.=) ANY ($2)",
					 table_name(mirror));

	check_code(SPI_connect(), SPI_OK_CONNECT);
	check_code(SPI_execute_with_args(text.data, 2, types, values, NULL, false,
									 0),
			   SPI_OK_DELETE);
	ndeleted = (int64) SPI_processed;
	check_code(SPI_finish(), SPI_OK_FINISH);
	return ndeleted;
}
