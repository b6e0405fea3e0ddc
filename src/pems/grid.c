/*
 * grid.c
 *	  Reading pages of a PEMS grid: requests, answers, their oddities.
 *
 * A page is decoded while it arrives: the parser runs in libcurl's callback
 * and fills the page's batch, so that neither a whole answer nor a whole page
 * of records need be in memory.  The price is that rows may have been taken
 * away by the caller before the page turns out to be bad; they were good rows
 * all the same, and the page is then asked for again.
 *
 * Where positional rows come without a field list, one HEAD_ONLY request
 * fetches it for every page that waits for it, and these pages are asked for
 * once more.  A page that still does not fit is given back as a failed attempt
 * rather than asked for in a circle.  Each answer is read by a copy of the
 * list that was newest when it was asked for, or by its own: columns may move
 * while several are on their way.
 *
 * The parsers, batches and the layout are malloc'd: they hang on the client,
 * whose memory context frees them by a reset callback.
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "pems/grid.h"
#include "utils/json.h"
#include "utils/memutils.h"

#define GRID_PATH "/axis/restservices/griddata"

/* Of an alert's text, how much goes into a message of ours. */
#define MAX_ALERT 200

#define ERROR_SIZE 400

static const PfaGridLimits limits = {.max_record_bytes = 1024 * 1024,
									 .max_page_bytes = (size_t) 4 * 1024 *
										 1024 * 1024,
									 .max_depth = 64,
									 .max_fields = 4096};

typedef enum PageState
{
	PAGE_SENT,             /* its transfer runs */
	PAGE_WAITS_FOR_LAYOUT, /* to be sent again after the HEAD request */
	PAGE_ENDED
} PageState;

/* One request and the parser of its answer. */
typedef struct Exchange
{
	PfaHttpTransfer *transfer; /* NULL: none under way */
	PfaGridParser *parser;
	PfaGridLayout *layout; /* that its positional rows are read by */
	PfaBatch *batch;
	PfaGridStatus fed;  /* what the parser said last */
	int64 max_rows;     /* asked for; 0: no rows are expected */
	size_t pause_bytes; /* stop reading when the batch holds more; 0:
								 * never */
	bool paused;
	int held;        /* entries of batch after the last bytes */
	bool rows_taken; /* the batch was reset since it was sent */
} Exchange;

/* How an exchange ended. */
typedef struct Verdict
{
	PfaGridOutcome outcome;
	bool needs_layout;
	int status;
	double retry_after;
	char error[ERROR_SIZE];
} Verdict;

struct PfaGridPage
{
	PfaGridClient *client;
	PfaGridPage *next;
	PageState state;
	char *body; /* the request, to send it again */
	int64 mark;
	Exchange exchange;
	bool layout_fetched; /* it has waited for a layout once */
	Verdict verdict;
};

struct PfaGridClient
{
	MemoryContext context;
	MemoryContextCallback callback;
	PfaHttp *http; /* in a child context: gone before the rest */
	const PfaSource *source;
	const PfaMapping *mapping;
	char *organization;     /* PEMS's code */
	PfaGridLayout *layout;  /* the newest field list */
	PfaGridLayout *aliases; /* of named cells, of all answers */
	bool uneven;            /* named rows leave cells out */
	PfaGridPage *pages;
	Exchange head;
	Exchange count;
	size_t flush_bytes; /* of the wait under way */
	int64 calls;
	int64 bytes; /* of transfers that are over */
};

/* ---- request bodies ---- */

static const char *
field_alias(const PfaMapping *mapping, int field, const char *key)
{
	if (field < 0 || field >= mapping->nfields)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("no PEMS field is mapped to \"%s\"", key)));
	return mapping->fields[field].alias;
}

/* A string member, in UTF-8 as JSON must be. */
static void
add_member(StringInfo out, const char *name, const char *value)
{
	char *utf8 = pg_server_to_any(value, strlen(value), PG_UTF8);

	if (out->len > 0 && out->data[out->len - 1] != '{')
		appendStringInfoChar(out, ',');
	appendStringInfo(out, "\"%s\":", name);
	escape_json(out, utf8);
	if (utf8 != value)
		pfree(utf8);
}

static void
begin_object(StringInfo out, const char *name)
{
	if (out->len > 0 && strchr("{[", out->data[out->len - 1]) == NULL)
		appendStringInfoChar(out, ',');
	if (name != NULL)
		appendStringInfo(out, "\"%s\":", name);
	appendStringInfoChar(out, '{');
}

static void
add_condition(StringInfo out, const char *alias, const char *operator,
			  const char * value)
{
	add_member(out, "ALIAS_NAME", alias);
	add_member(out, "OPERATOR", operator);
	add_member(out, "VALUE", value);
}

/* One of several filters, all of which must hold. */
static void
add_filter(StringInfo out, int *nfilters, const char *alias,
		   const char *operator, const char * value)
{
	begin_object(out, NULL);
	add_condition(out, alias, operator, value);
	add_member(out, "JOINER", "AND");
	appendStringInfo(out, ",\"SEQNUM\":%d}", ++*nfilters);
}

/*
 * The organization, and what the request adds to it.  Rows of organizations
 * that begin with the same letters come along; the parser drops them.
 */
static void
add_filters(StringInfo out, const PfaGridClient *client,
			const PfaGridRequest *request)
{
	const PfaMapping *mapping = client->mapping;
	const char *organization = field_alias(mapping, mapping->organization_field,
										   "organization");
	int nfilters = 0;

	if (request->after_id == NULL && request->modified_since == NULL)
	{
		begin_object(out, "ADDON_FILTER");
		add_condition(out, organization, "BEGINS", client->organization);
		appendStringInfoChar(out, '}');
		return;
	}
	begin_object(out, "MULTIADDON_FILTERS");
	appendStringInfoString(out, "\"MADDON_FILTER\":[");
	add_filter(out, &nfilters, organization, "BEGINS", client->organization);
	if (request->after_id != NULL)
		add_filter(out, &nfilters,
				   field_alias(mapping, mapping->id_field, "pfaId"),
				   ">=", request->after_id);
	if (request->modified_since != NULL)
		add_filter(out, &nfilters,
				   field_alias(mapping, mapping->version_field, "pemsVersion"),
				   ">=", request->modified_since);
	appendStringInfoString(out, "]}");
}

/* palloc'd.  Deployments read one or the other of the two positions. */
static char *
build_body(const PfaGridClient *client, const char *request_type,
		   const PfaGridRequest *request)
{
	const PfaMapping *mapping = client->mapping;
	const char *id = field_alias(mapping, mapping->id_field, "pfaId");
	StringInfoData out;

	initStringInfo(&out);
	begin_object(&out, NULL);
	begin_object(&out, "GRID");
	add_member(&out, "GRID_NAME", client->source->grid_name);
	add_member(&out, "GRID_ID", client->source->grid_id);
	appendStringInfo(&out,
					 ",\"NUMBER_OF_ROWS_FIRST_RETURNED\":%d"
					 ",\"CURSOR_POSITION\":" INT64_FORMAT
					 ",\"ROW_OFFSET\":" INT64_FORMAT,
					 request->nrows, request->offset, request->offset);
	add_member(&out, "RESULT_IN_SAXORDER", "TRUE");
	appendStringInfoChar(&out, '}');
	begin_object(&out, "ADDON_SORT");
	add_member(&out, "ALIAS_NAME", id);
	add_member(&out, "TYPE", "ASC");
	appendStringInfoChar(&out, '}');
	add_filters(&out, client, request);
	begin_object(&out, "GRID_TYPE");
	add_member(&out, "TYPE", "LIST");
	appendStringInfoChar(&out, '}');
	begin_object(&out, "LOV_PARAMETER");
	add_member(&out, "ALIAS_NAME", id);
	appendStringInfoChar(&out, '}');
	add_member(&out, "REQUEST_TYPE", request_type);
	appendStringInfoChar(&out, '}');
	return out.data;
}

/* ---- an exchange ---- */

/* What is wrong with the rows that have come, as far as one page can tell. */
static const char *
wrong_rows(const Exchange *exchange)
{
	const PfaGridResult *result = pfa_grid_parser_result(exchange->parser);

	if (!result->ascending)
		return "PEMS did not list the records in the byte order of their ids";
	if (exchange->max_rows > 0 && result->nrows > exchange->max_rows)
		return "PEMS returned more rows than it was asked for";
	return NULL;
}

/* In libcurl's callback: no palloc, no ereport. */
static bool
take_body(void *arg, const char *data, size_t len)
{
	Exchange *exchange = arg;

	exchange->fed = pfa_grid_parser_feed(exchange->parser, data, len);
	if (exchange->fed != PFA_GRID_MORE && exchange->fed != PFA_GRID_DONE)
		return false;

	/*
	 * Such a page will not be used, whatever follows; rows out of order could
	 * not be written before it is complete, and it might never be.
	 */
	if (wrong_rows(exchange) != NULL)
		return false;
	exchange->held = pfa_batch_nrecords(exchange->batch) +
		pfa_batch_nrejects(exchange->batch);
	if (exchange->pause_bytes > 0 &&
		pfa_batch_bytes(exchange->batch) > exchange->pause_bytes)
	{
		exchange->paused = true;
		pfa_http_pause(exchange->transfer);
	}
	return true;
}

static void
send_request(PfaGridClient *client, Exchange *exchange, const char *body)
{
	Assert(exchange->transfer == NULL);
	if (exchange->batch == NULL)
		exchange->batch = pfa_batch_create();
	else
		pfa_batch_reset(exchange->batch);
	if (exchange->parser != NULL)
		pfa_grid_parser_free(exchange->parser);
	exchange->parser = NULL;
	if (exchange->layout == NULL)
		exchange->layout = pfa_grid_layout_create();
	if (exchange->batch != NULL && exchange->layout != NULL)
	{
		if (!pfa_grid_layout_equal(exchange->layout, client->layout))
			pfa_grid_layout_copy(exchange->layout, client->layout);
		exchange->parser = pfa_grid_parser_create(client->mapping,
												  client->organization,
												  exchange->layout, &limits,
												  exchange->batch);
	}
	if (exchange->parser == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	exchange->fed = PFA_GRID_MORE;
	exchange->paused = false;
	exchange->held = 0;
	exchange->rows_taken = false;
	exchange->transfer = pfa_http_post(client->http, GRID_PATH, body, take_body,
									   exchange);
	client->calls++;
}

static void
close_exchange(PfaGridClient *client, Exchange *exchange)
{
	if (exchange->transfer == NULL)
		return;
	client->bytes += pfa_http_bytes(exchange->transfer);
	pfa_http_finish(exchange->transfer);
	exchange->transfer = NULL;
}

/* What it has in malloc'd memory. */
static void
free_exchange(Exchange *exchange)
{
	if (exchange->parser != NULL)
		pfa_grid_parser_free(exchange->parser);
	if (exchange->layout != NULL)
		pfa_grid_layout_free(exchange->layout);
	if (exchange->batch != NULL)
		pfa_batch_free(exchange->batch);
	exchange->parser = NULL;
	exchange->layout = NULL;
	exchange->batch = NULL;
}

/* What a good answer has told of the fields there are. */
static void
take_fields(PfaGridClient *client, const Exchange *exchange)
{
	const PfaGridResult *result = pfa_grid_parser_result(exchange->parser);
	const PfaGridLayout *aliases = pfa_grid_parser_aliases(exchange->parser);

	if (result->has_fields &&
		!pfa_grid_layout_equal(client->layout, exchange->layout))
		pfa_grid_layout_copy(client->layout, exchange->layout);
	if (pfa_grid_layout_size(aliases) == 0)
		return;
	pfa_grid_layout_merge(client->aliases, aliases);
	client->uneven |= result->uneven;
}

/* ---- what an answer means ---- */

/*
 * Add a text of the other side: one line, cut, and in the server's encoding
 * (the parser's texts are UTF-8).
 */
static void
append_foreign(char *out, size_t size, const char *text)
{
	bool utf8 = GetDatabaseEncoding() == PG_UTF8;
	size_t used = strlen(out);
	size_t len = strlen(text);
	size_t max = Min(MAX_ALERT, size - used - 1);

	if (len > max)
	{
		for (len = max; len > 0 && (text[len] & 0xc0) == 0x80; len--)
			;
	}
	for (size_t i = 0; i < len; i++)
	{
		unsigned char c = text[i];

		if (c < ' ' || c == 0x7f)
			c = ' ';
		else if (c > 0x7f && !utf8)
			c = '?';
		out[used++] = c;
	}
	out[used] = '\0';
}

/* An error's body often holds an ErrorAlert that says more than its status. */
static void
append_alert(PfaGridClient *client, const char *body, Verdict *verdict)
{
	PfaBatch *batch;
	PfaGridLayout *layout;
	PfaGridParser *parser = NULL;

	if (body[0] == '\0')
		return;
	batch = pfa_batch_create();
	layout = pfa_grid_layout_create();
	if (batch != NULL && layout != NULL)
		parser = pfa_grid_parser_create(client->mapping, client->organization,
										layout, &limits, batch);
	if (parser != NULL)
	{
		PfaGridStatus status = pfa_grid_parser_feed(parser, body, strlen(body));

		if (status == PFA_GRID_MORE)
			status = pfa_grid_parser_finish(parser);
		if (status == PFA_GRID_ALERT)
		{
			strlcat(verdict->error, ": ", ERROR_SIZE);
			append_foreign(verdict->error, ERROR_SIZE,
						   pfa_grid_parser_result(parser)->error);
		}
		pfa_grid_parser_free(parser);
	}
	if (layout != NULL)
		pfa_grid_layout_free(layout);
	if (batch != NULL)
		pfa_batch_free(batch);
}

static PfaGridOutcome
status_outcome(int status)
{
	switch (status)
	{
		case 401:
		case 403:
			return PFA_GRID_DENIED;
		case 408:
		case 425:
		case 429:
			return PFA_GRID_TRANSIENT;
		default:
			return status >= 400 && status < 500 ? PFA_GRID_FINAL :
												   PFA_GRID_TRANSIENT;
	}
}

/* A body of status 200, complete or stopped by the parser. */
static void
judge_body(const Exchange *exchange, Verdict *verdict)
{
	const PfaGridResult *result = pfa_grid_parser_result(exchange->parser);
	const char *wrong = wrong_rows(exchange);

	verdict->outcome = PFA_GRID_TRANSIENT;
	if (wrong != NULL &&
		(exchange->fed == PFA_GRID_MORE || exchange->fed == PFA_GRID_DONE))
	{
		strlcpy(verdict->error, wrong, ERROR_SIZE);
		return;
	}
	switch (exchange->fed)
	{
		case PFA_GRID_DONE:
			verdict->outcome = PFA_GRID_PAGE;
			break;
		case PFA_GRID_NEEDS_LAYOUT:
			verdict->needs_layout = true;
			strlcpy(verdict->error, "rows do not fit the field list",
					ERROR_SIZE);
			break;
		case PFA_GRID_ALERT:
			strlcpy(verdict->error, "PEMS reported: ", ERROR_SIZE);
			append_foreign(verdict->error, ERROR_SIZE, result->error);
			break;
		case PFA_GRID_OUT_OF_MEMORY:
			strlcpy(verdict->error, "out of memory", ERROR_SIZE);
			break;
		case PFA_GRID_MORE:
			strlcpy(verdict->error, "answer is not complete", ERROR_SIZE);
			break;
		case PFA_GRID_MALFORMED:
			strlcpy(verdict->error, "answer is malformed: ", ERROR_SIZE);
			append_foreign(verdict->error, ERROR_SIZE, result->error);
			break;
	}
}

/* What came of an exchange whose transfer has ended; ends the exchange. */
static void
judge(PfaGridClient *client, Exchange *exchange, Verdict *verdict)
{
	PfaHttpTransfer *transfer = exchange->transfer;
	PfaHttpOutcome outcome = pfa_http_outcome(transfer);

	memset(verdict, 0, sizeof(Verdict));
	verdict->status = pfa_http_status(transfer);
	verdict->retry_after = pfa_http_retry_after(transfer);
	strlcpy(verdict->error, pfa_http_error(transfer), ERROR_SIZE);
	switch (outcome)
	{
		case PFA_HTTP_RUNNING:
			Assert(false);
			break;
		case PFA_HTTP_OK:
			exchange->fed = pfa_grid_parser_finish(exchange->parser);
			judge_body(exchange, verdict);
			break;
		case PFA_HTTP_SINK:
			judge_body(exchange, verdict);
			break;
		case PFA_HTTP_STATUS:
			verdict->outcome = status_outcome(verdict->status);
			append_alert(client, pfa_http_error_body(transfer), verdict);
			break;
		case PFA_HTTP_NETWORK:
			verdict->outcome = PFA_GRID_TRANSIENT;
			break;
		case PFA_HTTP_REDIRECT:
		case PFA_HTTP_TLS:
		case PFA_HTTP_REFUSED_ADDRESS:
			verdict->outcome = PFA_GRID_FINAL;
			break;
	}
	if (verdict->outcome == PFA_GRID_PAGE)
		take_fields(client, exchange);
	close_exchange(client, exchange);
}

/* ---- the client ---- */

/* Memory context callback; the HTTP client is gone already. */
static void
release(void *arg)
{
	PfaGridClient *client = arg;

	for (PfaGridPage *page = client->pages; page != NULL; page = page->next)
		free_exchange(&page->exchange);
	client->pages = NULL;
	free_exchange(&client->head);
	free_exchange(&client->count);
	if (client->layout != NULL)
		pfa_grid_layout_free(client->layout);
	if (client->aliases != NULL)
		pfa_grid_layout_free(client->aliases);
	client->layout = NULL;
	client->aliases = NULL;
}

PfaGridClient *
pfa_grid_client_create(MemoryContext ctx, const PfaSource *source,
					   const PfaMapping *mapping, const char *pems_organization)
{
	MemoryContext context = AllocSetContextCreate(ctx, "pfa_vanguard grid",
												  ALLOCSET_DEFAULT_SIZES);
	PfaGridClient *client = MemoryContextAllocZero(context,
												   sizeof(PfaGridClient));
	PfaHttpOptions options = {0};

	client->context = context;
	client->callback.func = release;
	client->callback.arg = client;
	MemoryContextRegisterResetCallback(context, &client->callback);
	client->source = source;
	client->mapping = mapping;
	client->organization = MemoryContextStrdup(context, pems_organization);
	client->layout = pfa_grid_layout_create();
	client->aliases = pfa_grid_layout_create();
	if (client->layout == NULL || client->aliases == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));

	options.base_url = source->base_url;
	options.username = source->username;
	options.password = source->password;
	options.api_key = source->api_key;
	options.tenant = source->tenant;
	options.organization = pems_organization;
	options.ca_file = source->ca_file;
	options.proxy = source->proxy;
	options.verify_tls = source->verify_tls;
	options.private_hosts_allowed = source->private_hosts_allowed;
	options.connect_timeout_ms = source->connect_timeout_ms;
	options.timeout_ms = source->timeout_ms;
	client->http = pfa_http_create(context, &options);
	return client;
}

void
pfa_grid_client_free(PfaGridClient *client)
{
	MemoryContextDelete(client->context);
}

int64
pfa_grid_client_calls(const PfaGridClient *client)
{
	return client->calls;
}

int64
pfa_grid_client_bytes(const PfaGridClient *client)
{
	int64 bytes = client->bytes;

	for (const PfaGridPage *page = client->pages; page; page = page->next)
	{
		if (page->exchange.transfer != NULL)
			bytes += pfa_http_bytes(page->exchange.transfer);
	}
	return bytes;
}

const PfaGridLayout *
pfa_grid_client_fields(const PfaGridClient *client, bool *complete)
{
	if (pfa_grid_layout_size(client->layout) > 0)
	{
		*complete = true;
		return client->layout;
	}
	*complete = !client->uneven;
	return client->aliases;
}

/* ---- pages ---- */

PfaGridPage *
pfa_grid_page_start(PfaGridClient *client, const PfaGridRequest *request)
{
	MemoryContext old = MemoryContextSwitchTo(client->context);
	PfaGridPage *page = palloc0(sizeof(PfaGridPage));

	page->client = client;
	page->state = PAGE_ENDED; /* until it is sent */
	page->verdict.outcome = PFA_GRID_RUNNING;
	page->verdict.retry_after = -1;
	page->next = client->pages;
	client->pages = page;
	page->body = build_body(client, "LIST.DATA_ONLY.STORED", request);
	page->mark = request->mark;
	page->exchange.max_rows = request->nrows;
	send_request(client, &page->exchange, page->body);
	pfa_grid_parser_mark(page->exchange.parser, page->mark);
	page->state = PAGE_SENT;
	MemoryContextSwitchTo(old);
	return page;
}

void
pfa_grid_page_free(PfaGridPage *page)
{
	PfaGridClient *client = page->client;

	for (PfaGridPage **link = &client->pages; *link != NULL;
		 link = &(*link)->next)
	{
		if (*link == page)
		{
			*link = page->next;
			break;
		}
	}
	close_exchange(client, &page->exchange);
	free_exchange(&page->exchange);
	pfree(page->body);
	pfree(page);
}

PfaGridOutcome
pfa_grid_page_outcome(const PfaGridPage *page)
{
	return page->verdict.outcome;
}

PfaBatch *
pfa_grid_page_batch(PfaGridPage *page)
{
	return page->exchange.batch;
}

const PfaGridResult *
pfa_grid_page_result(const PfaGridPage *page)
{
	return pfa_grid_parser_result(page->exchange.parser);
}

const char *
pfa_grid_page_first_id(const PfaGridPage *page)
{
	return pfa_grid_parser_first_id(page->exchange.parser);
}

const char *
pfa_grid_page_last_id(const PfaGridPage *page)
{
	return pfa_grid_parser_last_id(page->exchange.parser);
}

const char *
pfa_grid_page_error(const PfaGridPage *page)
{
	return page->verdict.error;
}

double
pfa_grid_page_retry_after(const PfaGridPage *page)
{
	return page->verdict.retry_after;
}

int
pfa_grid_page_status(const PfaGridPage *page)
{
	return page->verdict.status;
}

/* ---- progress ---- */

static void
end_page(PfaGridPage *page, const Verdict *verdict)
{
	Assert(page->state != PAGE_ENDED);
	page->verdict = *verdict;
	page->state = PAGE_ENDED;
}

/*
 * Have a page wait for the field list, unless it has had its turn.  Rows that
 * were decoded before the misfit come again with the page.
 */
static void
want_layout(PfaGridPage *page, const Verdict *verdict)
{
	PfaGridClient *client = page->client;
	PfaGridRequest request = {0};
	char *body;

	Assert(page->state == PAGE_SENT);
	if (page->layout_fetched)
	{
		end_page(page, verdict);
		return;
	}
	pfa_batch_reset(page->exchange.batch);
	page->layout_fetched = true;
	page->state = PAGE_WAITS_FOR_LAYOUT;
	if (client->head.transfer != NULL)
		return;
	request.nrows = 1;
	body = build_body(client, "LIST.HEAD_ONLY.STORED", &request);
	send_request(client, &client->head, body);
	pfree(body);
}

/* The HEAD request has ended: pages that wait for it go on, or fail with it. */
static int
settle_head(PfaGridClient *client)
{
	Verdict verdict;
	int ended = 0;

	judge(client, &client->head, &verdict);
	if (verdict.outcome == PFA_GRID_PAGE &&
		pfa_grid_layout_size(client->layout) == 0)
	{
		verdict.outcome = PFA_GRID_TRANSIENT;
		strlcpy(verdict.error, "PEMS sent no field list", ERROR_SIZE);
	}
	else if (verdict.outcome != PFA_GRID_PAGE)
	{
		char reason[ERROR_SIZE];

		strlcpy(reason, verdict.error, ERROR_SIZE);
		snprintf(verdict.error, ERROR_SIZE, "could not read field list: %.350s",
				 reason);
	}

	for (PfaGridPage *page = client->pages; page != NULL; page = page->next)
	{
		if (page->state != PAGE_WAITS_FOR_LAYOUT)
			continue;

		/*
		 * Rows handed over already have been counted by the caller, who then
		 * has to begin again, with the new list.
		 */
		if (verdict.outcome == PFA_GRID_PAGE && !page->exchange.rows_taken)
		{
			send_request(client, &page->exchange, page->body);
			pfa_grid_parser_mark(page->exchange.parser, page->mark);
			pfa_grid_parser_trust_layout(page->exchange.parser);
			page->state = PAGE_SENT;
			continue;
		}
		if (verdict.outcome == PFA_GRID_PAGE)
		{
			verdict.outcome = PFA_GRID_TRANSIENT;
			strlcpy(verdict.error, "field list changed within a page",
					ERROR_SIZE);
			end_page(page, &verdict);
			verdict.outcome = PFA_GRID_PAGE;
		}
		else
			end_page(page, &verdict);
		ended++;
	}
	return ended;
}

/* Deal with all transfers that have ended.  How many pages did? */
static int
settle(PfaGridClient *client)
{
	int ended = 0;

	for (PfaGridPage *page = client->pages; page != NULL; page = page->next)
	{
		Verdict verdict;

		if (page->state != PAGE_SENT ||
			pfa_http_outcome(page->exchange.transfer) == PFA_HTTP_RUNNING)
			continue;
		judge(client, &page->exchange, &verdict);
		if (verdict.needs_layout)
			want_layout(page, &verdict);
		else
		{
			if (verdict.outcome == PFA_GRID_PAGE &&
				!pfa_grid_parser_result(page->exchange.parser)->has_grid)
			{
				verdict.outcome = PFA_GRID_TRANSIENT;
				strlcpy(verdict.error, "answer holds no grid", ERROR_SIZE);
			}
			end_page(page, &verdict);
		}
		if (page->state == PAGE_ENDED)
			ended++;
	}
	if (client->head.transfer != NULL &&
		pfa_http_outcome(client->head.transfer) != PFA_HTTP_RUNNING)
		ended += settle_head(client);
	return ended;
}

/* Has a page brought enough to be worth writing? */
static bool
any_page_full(void *arg)
{
	PfaGridClient *client = arg;

	for (PfaGridPage *page = client->pages; page != NULL; page = page->next)
	{
		const Exchange *exchange = &page->exchange;

		if (page->state == PAGE_SENT && wrong_rows(exchange) == NULL &&
			pfa_batch_bytes(exchange->batch) >= client->flush_bytes)
			return true;
	}
	return false;
}

/*
 * Note which batches were taken since the last wait, and let go on what stood
 * still because nobody had.
 */
static void
resume_pages(PfaGridClient *client)
{
	for (PfaGridPage *page = client->pages; page != NULL; page = page->next)
	{
		Exchange *exchange = &page->exchange;

		if (page->state != PAGE_SENT)
			continue;
		exchange->pause_bytes = 2 * client->flush_bytes;
		if (pfa_batch_nrecords(exchange->batch) +
				pfa_batch_nrejects(exchange->batch) <
			exchange->held)
			exchange->rows_taken = true;
		if (exchange->paused &&
			pfa_batch_bytes(exchange->batch) <= exchange->pause_bytes)
		{
			exchange->paused = false;
			pfa_http_resume(exchange->transfer);
		}
	}
}

void
pfa_grid_wait(PfaGridClient *client, size_t flush_bytes, long timeout_ms)
{
	client->flush_bytes = Max(flush_bytes, 1);
	if (settle(client) > 0)
		return;
	resume_pages(client);
	if (any_page_full(client))
		timeout_ms = 0;
	pfa_http_wait(client->http, timeout_ms, any_page_full, client);
	settle(client);
}

bool
pfa_grid_count(PfaGridClient *client, int64 *count, char **message)
{
	PfaGridRequest request = {0};
	Verdict verdict;
	char *body;

	request.nrows = 1;
	body = build_body(client, "LIST.COUNT.STORED", &request);
	send_request(client, &client->count, body);
	pfree(body);
	while (pfa_http_outcome(client->count.transfer) == PFA_HTTP_RUNNING)
		pfa_http_wait(client->http, -1, NULL, NULL);
	judge(client, &client->count, &verdict);
	if (verdict.outcome != PFA_GRID_PAGE)
	{
		*message = pstrdup(verdict.error);
		return false;
	}
	*count = pfa_grid_parser_result(client->count.parser)->total;
	return true;
}
