/*
 * source.c
 *	  Foreign servers and user mappings of the wrapper pfa_pems as sources.
 *
 * Nothing here trusts that whoever set up the server may see the credentials.
 * A request leaves only if a superuser approved the host (by owning the server
 * or in pfa_vanguard.allowed_hosts), the role may use the server still, and its
 * credentials were given for this scheme, host and port.  The last is trust on
 * first use, so that CREATE USER MAPPING is enough to begin with.
 *
 * A change of the secrets in a mapping does not move the binding, or the owner
 * of a server could re-aim it and wait for a password to be renewed: it takes
 * pfa_bind_credentials or pfa_set_credentials.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/dependency.h"
#include "catalog/pg_foreign_data_wrapper.h"
#include "catalog/pg_foreign_server.h"
#include "catalog/pg_user_mapping.h"
#include "commands/defrem.h"
#include "commands/extension.h"
#include "foreign/foreign.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/syscache.h"

#include "catalog/credential_origin.h"
#include "catalog/pfa_catalog.h"
#include "secret_file.h"
#include "catalog/source.h"
#include "guc.h"
#include "pems/address.h"
#include "pems/source.h"
#include "pems/source_options.h"

#define PUBLIC_NAME "public"

static bool notices_off = false;

bool
pfa_source_notices(void)
{
	return !notices_off;
}

/* ---- server and mapping ---- */

static void
check_usage(Oid server_oid, const char *server_name, Oid role)
{
	Datum usage;

	/* By the SQL function, whose C name is the same in all releases. */
	usage = DirectFunctionCall3(has_server_privilege_id_id,
								ObjectIdGetDatum(role),
								ObjectIdGetDatum(server_oid),
								CStringGetTextDatum("USAGE"));
	if (!DatumGetBool(usage))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for foreign server %s", server_name),
				 errhint("Role \"%s\" needs USAGE on the server.",
						 GetUserNameFromId(role, false))));
}

/* A server of another wrapper has options that mean something else. */
static void
check_wrapper(const ForeignServer *server)
{
	Oid extension = pfa_extension_oid(false);

	if (!OidIsValid(extension) ||
		getExtensionOfObject(ForeignDataWrapperRelationId, server->fdwid) !=
			extension)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("server \"%s\" is not a PEMS server",
						server->servername),
				 errhint(
					 "Create the server with FOREIGN DATA WRAPPER pfa_pems.")));
}

static ForeignServer *
get_server(Oid server_oid, Oid role)
{
	ForeignServer *server = GetForeignServerExtended(server_oid,
													 FSV_MISSING_OK);

	if (server == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("foreign server with OID %u does not exist",
						server_oid)));
	check_wrapper(server);
	check_usage(server_oid, server->servername, role);
	return server;
}

Oid
pfa_source_server(const char *name, Oid role)
{
	ForeignServer *server = GetForeignServerByName(name, false);

	check_wrapper(server);
	check_usage(server->serverid, name, role);
	return server->serverid;
}

static bool
has_mapping(Oid role, Oid server_oid)
{
	return SearchSysCacheExists2(USERMAPPINGUSERSERVER, ObjectIdGetDatum(role),
								 ObjectIdGetDatum(server_oid));
}

static UserMapping *
get_mapping(const ForeignServer *server, Oid role)
{
	if (!has_mapping(role, server->serverid) &&
		!has_mapping(InvalidOid, server->serverid))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("role \"%s\" has no user mapping for server \"%s\"",
						GetUserNameFromId(role, false), server->servername),
				 errhint(
					 "Call pfa_set_credentials, or use CREATE USER MAPPING.")));
	return GetUserMapping(role, server->serverid);
}

/* GetUserMapping tells the role asked for, not whose mapping it found. */
static char *
mapping_role(const ForeignServer *server, Oid role)
{
	if (has_mapping(role, server->serverid))
		return GetUserNameFromId(role, false);
	return pstrdup(PUBLIC_NAME);
}

/* ---- where to ---- */

static char *
server_url(const ForeignServer *server, PfaUrl *url)
{
	char *base_url = pfa_source_option_get(server->options, "base_url");

	if (base_url == NULL)
		ereport(
			ERROR,
			(errcode(ERRCODE_FDW_OPTION_NAME_NOT_FOUND),
			 errmsg("server \"%s\" has no base_url", server->servername),
			 errhint(
				 "Use ALTER SERVER ... OPTIONS (ADD base_url 'https://...').")));
	pfa_source_url_parse(base_url, url);
	return base_url;
}

static void
check_host(const ForeignServer *server, const PfaUrl *url)
{
	if (superuser_arg(server->owner) ||
		pfa_host_in_list(pfa_guc_allowed_hosts, url))
		return;
	ereport(
		ERROR,
		(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
		 errmsg("host \"%s\" of server \"%s\" is not allowed", url->host,
				server->servername),
		 errdetail(
			 "The server is not owned by a superuser, and the host is not in pfa_vanguard.allowed_hosts."),
		 errhint(
			 "Ask a superuser to add the host to pfa_vanguard.allowed_hosts.")));
}

static void
check_origin(const ForeignServer *server, Oid role, const char *origin,
			 bool bind)
{
	char *mapped = mapping_role(server, role);
	char *bound = pfa_credential_origin_get(server->servername, mapped);

	if (bound == NULL && bind && !RecoveryInProgress() && !XactReadOnly)
	{
		pfa_credential_origin_add(server->servername, mapped, origin);
		/* Somebody else may have been first, with another origin. */
		bound = pfa_credential_origin_get(server->servername, mapped);
	}
	if (bound == NULL || strcmp(bound, origin) == 0)
		return;
	ereport(
		ERROR,
		(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
		 errmsg("credentials for server \"%s\" were given for %s",
				server->servername, bound),
		 errdetail(
			 "The server now points to %s, and the credentials of \"%s\" are not sent there.",
			 origin, mapped),
		 errhint(
			 "If that is intended, call pfa_bind_credentials or pfa_set_credentials as the role of the user mapping.")));
}

/* ---- credentials ---- */

static void
load_credentials(PfaSource *source, Oid role, const UserMapping *mapping)
{
	char *path;

	pfa_source_options_apply(source, UserMappingRelationId, mapping->options);
	path = pfa_source_option_get(mapping->options, "password_file");
	if (path != NULL)
		source->password = pfa_secret_file_read("password_file", path,
												pfa_source_secret_valid, ERROR);
	path = pfa_source_option_get(mapping->options, "api_key_file");
	if (path != NULL)
		source->api_key = pfa_secret_file_read("api_key_file", path,
											   pfa_source_secret_valid, ERROR);

	if (source->username == NULL && source->password != NULL)
		ereport(
			ERROR,
			(errcode(ERRCODE_FDW_OPTION_NAME_NOT_FOUND),
			 errmsg(
				 "user mapping of \"%s\" for server \"%s\" has a password but no username",
				 GetUserNameFromId(role, false), source->server_name),
			 errhint("Add the option username to it.")));
	if (source->api_key == NULL && source->password == NULL)
		ereport(
			ERROR,
			(errcode(ERRCODE_FDW_OPTION_NAME_NOT_FOUND),
			 errmsg(
				 "user mapping of \"%s\" for server \"%s\" has no credentials",
				 GetUserNameFromId(role, false), source->server_name),
			 errhint(
				 "Set password_file or api_key_file in it, or call pfa_set_credentials.")));
}

static void
wipe_at_reset(void *source)
{
	pfa_source_wipe(source);
}

/*
 * The credentials are forgotten with the memory context at the latest, so an
 * error on the way to pfa_source_wipe leaves none behind.
 */
static PfaSource *
create_source(void)
{
	PfaSource *source = palloc0(sizeof(PfaSource));
	MemoryContextCallback *callback = palloc0(sizeof(MemoryContextCallback));

	callback->func = wipe_at_reset;
	callback->arg = source;
	MemoryContextRegisterResetCallback(CurrentMemoryContext, callback);
	pfa_source_options_default(source);
	return source;
}

static PfaSource *
load(Oid server_oid, Oid role, bool bind)
{
	ForeignServer *server = get_server(server_oid, role);
	UserMapping *mapping;
	PfaSource *source;
	PfaUrl url;

	server_url(server, &url);
	check_host(server, &url);
	mapping = get_mapping(server, role);

	source = create_source();
	source->server_oid = server_oid;
	source->server_name = pstrdup(server->servername);
	source->origin = pfa_url_origin(&url);
	/* check_host passed, so a superuser named the host, private or not */
	source->private_hosts_allowed = true;
	pfa_source_options_apply(source, ForeignServerRelationId, server->options);
	load_credentials(source, role, mapping);
	pfa_source_options_wipe(mapping->options);

	/* Last: a mapping that cannot be used yet binds nothing. */
	check_origin(server, role, source->origin, bind);
	return source;
}

PfaSource *
pfa_source_load(Oid server_oid, Oid role)
{
	return load(server_oid, role, true);
}

PfaSource *
pfa_source_peek(Oid server_oid, Oid role)
{
	return load(server_oid, role, false);
}

/* ---- binding ---- */

/*
 * Whoever binds says "send them there", so it takes somebody who could send
 * them by himself.  The mapping of PUBLIC is readable by the server's owner
 * only; a file is readable by superusers only, unless one of them decides
 * where the server points to.
 */
static void
check_may_bind(const ForeignServer *server, const UserMapping *mapping,
			   Oid role)
{
	bool files;

	files = pfa_source_option_get(mapping->options, "password_file") != NULL ||
		pfa_source_option_get(mapping->options, "api_key_file") != NULL;
	if (superuser_arg(role))
		return;
	if (!has_mapping(role, server->serverid) &&
		!has_privs_of_role(role, server->owner))
		ereport(
			ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("must be owner of foreign server %s", server->servername),
			 errdetail(
				 "Role \"%s\" uses the user mapping of PUBLIC, whose credentials only the server's owner can bind.",
				 GetUserNameFromId(role, false))));
	if (files && !superuser_arg(server->owner))
		ereport(
			ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg(
				 "permission denied to bind the credentials of a file to server \"%s\"",
				 server->servername),
			 errhint(
				 "Ask a superuser to remove the row of role and server from pfa_credential_origin.")));
}

void
pfa_source_bind(Oid server_oid, Oid role)
{
	ForeignServer *server = get_server(server_oid, role);
	UserMapping *mapping = get_mapping(server, role);
	PfaUrl url;

	server_url(server, &url);
	check_may_bind(server, mapping, role);
	pfa_source_options_wipe(mapping->options);
	pfa_credential_origin_set(server->servername, mapping_role(server, role),
							  pfa_url_origin(&url));
}

/* ---- setting ---- */

static RoleSpec *
current_role_spec(void)
{
	RoleSpec *spec = makeNode(RoleSpec);

	spec->roletype = ROLESPEC_CURRENT_USER;
	spec->location = -1;
	return spec;
}

static List *
add_change(List *changes, List *old, const char *name, const char *value)
{
	DefElemAction action = DEFELEM_ADD;
	bool set = pfa_source_option_get(old, name) != NULL;

	if (value == NULL && !set)
		return changes;
	if (set)
		action = value == NULL ? DEFELEM_DROP : DEFELEM_SET;
	return lappend(changes,
				   makeDefElemExtended(NULL, pstrdup(name),
									   value == NULL ?
										   NULL :
										   (Node *) makeString(pstrdup(value)),
									   action, -1));
}

static void
write_mapping(const ForeignServer *server, Oid role, const char *username,
			  const char *secret)
{
	List *old = NIL;
	List *changes = NIL;
	bool exists = has_mapping(role, server->serverid);

	if (exists)
		old = GetUserMapping(role, server->serverid)->options;
	changes = add_change(changes, old, "username", username);
	changes = add_change(changes, old, "password", secret);
	changes = add_change(changes, old, "password_file", NULL);
	pfa_source_options_wipe(old);

	if (exists)
	{
		AlterUserMappingStmt *alter = makeNode(AlterUserMappingStmt);

		alter->user = current_role_spec();
		alter->servername = server->servername;
		alter->options = changes;
		AlterUserMapping(alter);
	}
	else
	{
		CreateUserMappingStmt *create = makeNode(CreateUserMappingStmt);

		create->user = current_role_spec();
		create->servername = server->servername;
		create->options = changes;
		CreateUserMapping(create);
	}
	for (int i = 0; i < list_length(changes); i++)
	{
		DefElem *elem = list_nth_node(DefElem, changes, i);

		if (elem->arg != NULL)
			explicit_bzero(strVal(elem->arg), strlen(strVal(elem->arg)));
	}
}

/*
 * The statements are built as nodes and handed to the code that runs them, so
 * no text with the secret exists that a log or a statistics view could keep.
 */
void
pfa_source_set_credentials(Oid server_oid, Oid role, const char *username,
						   const char *secret)
{
	ForeignServer *server = get_server(server_oid, role);

	Assert(role == GetUserId());

	/* Where a flag must not outlive an error, nothing else will do. */
	notices_off = true;
	PG_TRY();
	{
		write_mapping(server, role, username, secret);
	}
	PG_FINALLY();
	{
		notices_off = false;
	}
	PG_END_TRY();
	CommandCounterIncrement();
	pfa_source_bind(server_oid, role);
}
