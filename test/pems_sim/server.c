/*
 * server.c
 *	  HTTP: connections, credentials, delays, transport faults, counters.
 *
 * A few threads with epoll each.  Nothing sleeps in them: a delayed request
 * is suspended, and one timer thread resumes it when it is due.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "sim.h"

#define MAX_BODY   (4 << 20)
#define LOG_SIZE   4096
#define MAX_PIECES 1000 /* below IOV_MAX */
#define FOREVER    1e18

/* ---- delays ---- */

typedef struct Delay
{
	struct MHD_Connection *connection;
	double due;
	struct Delay *next;
} Delay;

static struct
{
	pthread_mutex_t lock;
	pthread_cond_t changed;
	Delay *first;
	uint64_t woken; /* times that sim_server_wake was called */
} delays = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* Until then, or until a wake-up after so many. */
static void
delay_connection(struct MHD_Connection *connection, double due, uint64_t woken)
{
	Delay *delay = sim_alloc(sizeof(Delay));

	delay->connection = connection;
	delay->due = due;
	MHD_suspend_connection(connection);
	pthread_mutex_lock(&delays.lock);
	if (woken != delays.woken)
		delay->due = 0;
	delay->next = delays.first;
	delays.first = delay;
	pthread_cond_signal(&delays.changed);
	pthread_mutex_unlock(&delays.lock);
}

static void *
delay_thread(void *arg)
{
	(void) arg;
	pthread_mutex_lock(&delays.lock);
	for (;;)
	{
		double now = sim_now();
		double next = now + 3600;
		Delay **link = &delays.first;
		struct timespec until;

		while (*link)
		{
			Delay *delay = *link;

			if (delay->due <= now)
			{
				*link = delay->next;
				MHD_resume_connection(delay->connection);
				free(delay);
				continue;
			}
			if (delay->due < next)
				next = delay->due;
			link = &delay->next;
		}
		until.tv_sec = (time_t) next;
		until.tv_nsec = (long) ((next - (double) until.tv_sec) * 1e9);
		pthread_cond_timedwait(&delays.changed, &delays.lock, &until);
	}
	return NULL;
}

void
sim_server_wake(void)
{
	Delay *delay;

	pthread_mutex_lock(&delays.lock);
	delays.woken++;
	for (delay = delays.first; delay; delay = delay->next)
		delay->due = 0;
	pthread_cond_signal(&delays.changed);
	pthread_mutex_unlock(&delays.lock);
}

/* ---- counters and log ---- */

typedef struct LogEntry
{
	double time;
	double ms;
	int on;
	int status;
	int64_t offset;
	int64_t rows;
	int64_t bytes;
	char org[64];
	char filter[400];
} LogEntry;

static struct
{
	struct MHD_Daemon *daemon;
	atomic_int connections;
	atomic_llong connections_total;
	atomic_int in_flight;
	atomic_int in_flight_max;
	pthread_mutex_t lock; /* protects what follows */
	int64_t requests[32]; /* by SIM_ON_... */
	int64_t status[600];
	int64_t bytes;
	int64_t rows;
	int64_t nlogged;
	LogEntry log[LOG_SIZE];
} server = {.lock = PTHREAD_MUTEX_INITIALIZER};

static const char *
on_name(int on)
{
	return on == SIM_ON_DATA ? "data" :
		on == SIM_ON_HEAD    ? "head" :
		on == SIM_ON_COUNT   ? "count" :
		on == SIM_ON_GET     ? "get" :
		on == SIM_ON_WRITE   ? "write" :
							   "other";
}

static void
log_request(SimRequest *request, int status, size_t bytes)
{
	LogEntry *entry;
	struct timespec now;

	if (!request->held)
		return;
	clock_gettime(CLOCK_REALTIME, &now);
	pthread_mutex_lock(&server.lock);
	server.requests[request->on & 31]++;
	server.status[status >= 100 && status < 600 ? status : 0]++;
	server.bytes += (int64_t) bytes;
	server.rows += request->rows;
	entry = &server.log[server.nlogged++ % LOG_SIZE];
	entry->time = (double) now.tv_sec + (double) now.tv_nsec / 1e9;
	entry->ms = (sim_now() - request->started) * 1000;
	entry->on = request->on;
	entry->status = status;
	entry->offset = request->offset;
	entry->rows = request->rows;
	entry->bytes = (int64_t) bytes;
	memcpy(entry->org, request->org[0] ? request->org : request->header_org,
		   sizeof(entry->org));
	memcpy(entry->filter, request->filter, sizeof(entry->filter));
	pthread_mutex_unlock(&server.lock);
}

void
sim_server_stats(SimBuf *out, bool reset)
{
	static const int kinds[] = {SIM_ON_DATA, SIM_ON_HEAD,  SIM_ON_COUNT,
								SIM_ON_GET,  SIM_ON_WRITE, 0};
	const char *comma = "";
	size_t i;

	pthread_mutex_lock(&server.lock);
	sim_buf_puts(out, "{\"requests\":{");
	for (i = 0; i < lengthof(kinds); i++)
		sim_buf_printf(out, "%s\"%s\":%lld", i ? "," : "", on_name(kinds[i]),
					   (long long) server.requests[kinds[i]]);
	sim_buf_puts(out, "},\"status\":{");
	for (i = 0; i < lengthof(server.status); i++)
		if (server.status[i])
		{
			sim_buf_printf(out, "%s\"%d\":%lld", comma, (int) i,
						   (long long) server.status[i]);
			comma = ",";
		}
	sim_buf_printf(out,
				   "},\"bytes\":%lld,\"rows\":%lld,\"in_flight\":%d,"
				   "\"in_flight_max\":%d,\"connections\":%d,"
				   "\"connections_total\":%lld,\"faults\":",
				   (long long) server.bytes, (long long) server.rows,
				   server.in_flight, server.in_flight_max, server.connections,
				   (long long) server.connections_total);
	if (reset)
	{
		memset(server.requests, 0, sizeof(server.requests));
		memset(server.status, 0, sizeof(server.status));
		server.bytes = server.rows = server.nlogged = 0;
		server.in_flight_max = server.in_flight;
		server.connections_total = 0;
	}
	pthread_mutex_unlock(&server.lock);
	sim_faults_json(out);
	out->len--;
	sim_buf_puts(out, "}\n");
}

/* The last n requests to PEMS, oldest first. */
void
sim_server_log(SimBuf *out, int64_t n)
{
	int64_t i;

	pthread_mutex_lock(&server.lock);
	if (n > LOG_SIZE)
		n = LOG_SIZE;
	i = server.nlogged > n ? server.nlogged - n : 0;
	for (; i < server.nlogged; i++)
	{
		LogEntry *e = &server.log[i % LOG_SIZE];

		sim_buf_printf(out, "{\"time\":%.3f,\"kind\":\"%s\",\"org\":", e->time,
					   on_name(e->on));
		sim_buf_json(out, e->org, false);
		sim_buf_printf(out,
					   ",\"offset\":%lld,\"rows\":%lld,\"bytes\":%lld,"
					   "\"status\":%d,\"ms\":%.3f,\"filter\":",
					   (long long) e->offset, (long long) e->rows,
					   (long long) e->bytes, e->status, e->ms);
		sim_buf_json(out, e->filter, false);
		sim_buf_puts(out, "}\n");
	}
	pthread_mutex_unlock(&server.lock);
}

/* ---- answers ---- */

static void
free_body(void *arg)
{
	sim_body_free(arg);
}

/* A body that is read piece by piece, because a fault has a say in it. */
typedef struct Feed
{
	SimBody *body;
	struct MHD_Connection *connection;
	int64_t cut;  /* closes here, -1: no */
	int64_t hang; /* stops here, -1: no */
	int64_t drip; /* bytes at a time, 0: no */
	double interval;
	double next;
	uint64_t woken; /* a wake-up after this ends the hang */
} Feed;

static void
free_feed(void *arg)
{
	Feed *feed = arg;

	sim_body_free(feed->body);
	free(feed);
}

static ssize_t
read_feed(void *arg, uint64_t pos, char *out, size_t max)
{
	Feed *feed = arg;
	double now = sim_now();
	size_t len;

	if (feed->cut >= 0)
	{
		if ((int64_t) pos >= feed->cut)
			return MHD_CONTENT_READER_END_WITH_ERROR;
		if ((int64_t) (pos + max) > feed->cut)
			max = (size_t) (feed->cut - (int64_t) pos);
	}
	if (feed->hang >= 0 && feed->woken == delays.woken)
	{
		if ((int64_t) pos >= feed->hang)
		{
			delay_connection(feed->connection, FOREVER, feed->woken);
			return 0;
		}
		if ((int64_t) (pos + max) > feed->hang)
			max = (size_t) (feed->hang - (int64_t) pos);
	}
	if (feed->drip > 0 && feed->woken == delays.woken)
	{
		if (now < feed->next)
		{
			delay_connection(feed->connection, feed->next, feed->woken);
			return 0;
		}
		feed->next = now + feed->interval;
		if (max > (size_t) feed->drip)
			max = (size_t) feed->drip;
	}
	len = sim_body_read(feed->body, out, max);
	return len > 0 ? (ssize_t) len : MHD_CONTENT_READER_END_OF_STREAM;
}

static struct MHD_Response *
feed_response(SimRequest *request, SimBody *body)
{
	const SimStrike *strike = &request->strike;
	Feed *feed = sim_alloc(sizeof(Feed));
	const SimFault *fault;
	uint64_t size = body->repeat ? MHD_SIZE_UNKNOWN : body->total;

	feed->body = body;
	feed->connection = request->connection;
	feed->cut = feed->hang = -1;
	feed->woken = request->woken;
	if (strike->on[SIM_FAULT_CUT])
	{
		fault = &strike->fault[SIM_FAULT_CUT];
		feed->cut = fault->bytes >= 0 && fault->bytes < (int64_t) body->total ?
			fault->bytes :
			(int64_t) body->total / 2;
	}
	if (strike->on[SIM_FAULT_HANG])
		feed->hang = strike->fault[SIM_FAULT_HANG].bytes;
	if (strike->on[SIM_FAULT_DRIP])
	{
		fault = &strike->fault[SIM_FAULT_DRIP];
		feed->drip = fault->n > 0 ? fault->n :
			fault->bytes > 0      ? fault->bytes :
									1000;
		feed->interval = (double) (fault->ms > 0 ? fault->ms : 100) / 1000;
	}
	return MHD_create_response_from_callback(size, 262144, read_feed, feed,
											 free_feed);
}

static void
add_fault_headers(struct MHD_Response *response, const SimStrike *strike)
{
	const SimFault *fault = NULL;
	char text[64];

	if (strike->on[SIM_FAULT_STATUS])
		fault = &strike->fault[SIM_FAULT_STATUS];
	else if (strike->on[SIM_FAULT_QUOTA])
		fault = &strike->fault[SIM_FAULT_QUOTA];
	if (fault && fault->retry_after_date >= 0)
	{
		time_t when = time(NULL) + fault->retry_after_date;
		struct tm tm;

		gmtime_r(&when, &tm);
		strftime(text, sizeof(text), "%a, %d %b %Y %H:%M:%S GMT", &tm);
		MHD_add_response_header(response, "Retry-After", text);
	}
	else if (fault && fault->text[0])
		MHD_add_response_header(response, "Retry-After", fault->text);
	else if (fault &&
			 (fault->retry_after >= 0 || fault->kind == SIM_FAULT_QUOTA))
	{
		snprintf(text, sizeof(text), "%d",
				 fault->retry_after >= 0 ? (int) fault->retry_after : 1);
		MHD_add_response_header(response, "Retry-After", text);
	}
	if (strike->on[SIM_FAULT_CLOSE])
		MHD_add_response_header(response, "Connection", "close");
	if (strike->on[SIM_FAULT_REDIRECT])
		MHD_add_response_header(response, "Location",
								strike->fault[SIM_FAULT_REDIRECT].text[0] ?
									strike->fault[SIM_FAULT_REDIRECT].text :
									"http://127.0.0.1:9/elsewhere");
}

static bool
wants_gzip(SimRequest *request)
{
	const char *accepted = MHD_lookup_connection_value(request->connection,
													   MHD_HEADER_KIND,
													   "Accept-Encoding");
	bool on;

	pthread_rwlock_rdlock(&sim_settings_lock);
	on = sim_settings.gzip;
	pthread_rwlock_unlock(&sim_settings_lock);
	return on && accepted && strstr(accepted, "gzip");
}

enum MHD_Result
sim_answer(SimRequest *request, int status, const char *type, SimBody *body)
{
	const SimStrike *strike = &request->strike;
	struct MHD_Response *response;
	enum MHD_Result result;
	bool gzipped;
	bool feed;

	gzipped = body->total > 1000 && !body->repeat && wants_gzip(request) &&
		sim_body_gzip(body);
	if (strike->on[SIM_FAULT_TRUNCATE])
	{
		int64_t bytes = strike->fault[SIM_FAULT_TRUNCATE].bytes;

		sim_body_truncate(body, bytes >= 0 ? (size_t) bytes : body->total / 2);
	}
	log_request(request, status, body->total);
	feed = strike->on[SIM_FAULT_CUT] || strike->on[SIM_FAULT_DRIP] ||
		(strike->on[SIM_FAULT_HANG] &&
		 strike->fault[SIM_FAULT_HANG].bytes >= 0) ||
		body->repeat;
	/* libmicrohttpd stalls where one writev does not take all pieces */
	if (body->npieces > MAX_PIECES)
		feed = true;
	if (feed)
		response = feed_response(request, body);
	else if (body->npieces == 0)
	{
		sim_body_free(body);
		response = MHD_create_response_from_buffer(0, "",
												   MHD_RESPMEM_PERSISTENT);
	}
	else
		response = MHD_create_response_from_iovec(body->pieces,
												  (unsigned) body->npieces,
												  free_body, body);
	if (response == NULL)
		return MHD_NO;
	MHD_add_response_header(response, "Content-Type", type);
	if (gzipped)
		MHD_add_response_header(response, "Content-Encoding", "gzip");
	if (status == 401)
		MHD_add_response_header(response, "WWW-Authenticate",
								"Basic realm=\"PEMS\"");
	add_fault_headers(response, strike);
	result = MHD_queue_response(request->connection, (unsigned) status,
								response);
	MHD_destroy_response(response);
	return result;
}

enum MHD_Result
sim_answer_text(SimRequest *request, int status, const char *type,
				const char *text)
{
	SimBody *body = sim_body_create();

	sim_body_copy(body, text);
	return sim_answer(request, status, type, body);
}

enum MHD_Result
sim_answer_alert(SimRequest *request, int status, const char *message,
				 const char *name)
{
	SimBody *body = sim_body_create();
	SimBuf buf = {0};

	sim_buf_puts(&buf, "{\"Result\":null,\"ErrorAlert\":[{\"Message\":");
	sim_buf_json(&buf, message, false);
	sim_buf_puts(&buf, ",\"Name\":");
	sim_buf_json(&buf, name, false);
	sim_buf_puts(&buf, ",\"Type\":\"ERROR\"}]}");
	sim_body_own(body, &buf);
	return sim_answer(request, status, "application/json", body);
}

/* Have the peer get a RST instead of an answer, which takes a disconnect. */
static enum MHD_Result
reset_connection(SimRequest *request)
{
	const union MHD_ConnectionInfo *info;
	struct sockaddr nowhere = {.sa_family = AF_UNSPEC};

	info = MHD_get_connection_info(request->connection,
								   MHD_CONNECTION_INFO_CONNECTION_FD);
	if (info)
		(void) connect(info->connect_fd, &nowhere, sizeof(nowhere));
	log_request(request, 0, 0);
	return MHD_NO;
}

/* Suspend for latency, or for a hang before the first byte. */
static bool
fault_delays(SimRequest *request)
{
	const SimStrike *strike = &request->strike;
	const SimFault *latency = &strike->fault[SIM_FAULT_LATENCY];
	const SimFault *hang = &strike->fault[SIM_FAULT_HANG];
	double due = 0;

	if (request->waited)
		return false;
	request->waited = true;
	if (strike->on[SIM_FAULT_LATENCY])
	{
		double ms = (double) (latency->ms >= 0 ? latency->ms : 200);

		if (latency->jitter > 0)
			ms += (double) (random() % latency->jitter);
		due = sim_now() + ms / 1000;
	}
	if (strike->on[SIM_FAULT_HANG] && hang->bytes < 0)
		due = hang->ms >= 0 ? sim_now() + (double) hang->ms / 1000 : FOREVER;
	if (due == 0)
		return false;
	delay_connection(request->connection, due, request->woken);
	return true;
}

bool
sim_answer_fault(SimRequest *request, enum MHD_Result *result)
{
	SimStrike *strike = &request->strike;

	if (!request->struck)
	{
		request->struck = true;
		/* A fault that is cleared from now on lets the request go on. */
		pthread_mutex_lock(&delays.lock);
		request->woken = delays.woken;
		pthread_mutex_unlock(&delays.lock);
		sim_faults_strike(strike, request->on, request->org, request->offset);
	}
	*result = MHD_YES;
	if (fault_delays(request))
		return true;
	if (strike->on[SIM_FAULT_RESET])
		*result = reset_connection(request);
	else if (strike->on[SIM_FAULT_QUOTA])
		*result = sim_answer_alert(request, 429, "Too many requests",
								   "RATE_LIMIT");
	else if (strike->on[SIM_FAULT_STATUS])
		*result = sim_answer_alert(request,
								   (int) strike->fault[SIM_FAULT_STATUS].code,
								   "The service answered with an error",
								   "HTTP_STATUS");
	else if (strike->on[SIM_FAULT_REDIRECT])
		*result =
			sim_answer_text(request,
							strike->fault[SIM_FAULT_REDIRECT].code / 100 == 3 ?
								(int) strike->fault[SIM_FAULT_REDIRECT].code :
								302,
							"text/html", "");
	else if (strike->on[SIM_FAULT_EMPTY])
		*result = sim_answer_text(request, 200, "application/json", "");
	else if (strike->on[SIM_FAULT_HTML])
		*result = sim_answer_text(request, 200, "text/html",
								  "<!DOCTYPE html>\n<html><head><title>Sign in"
								  "</title></head><body>Maintenance"
								  "</body></html>\n");
	else if (strike->on[SIM_FAULT_GARBAGE])
		*result = sim_answer_text(request, 200, "application/json",
								  "{\"Result\":\x01\x02 #!garbage]]}} \xff");
	else if (strike->on[SIM_FAULT_ALERT])
		*result =
			sim_answer_alert(request, 200,
							 strike->fault[SIM_FAULT_ALERT].text[0] ?
								 strike->fault[SIM_FAULT_ALERT].text :
								 "The grid is not available at this moment",
							 "GRID_ERROR");
	else
		return false;
	return true;
}

const char *
sim_query(SimRequest *request, const char *name)
{
	return MHD_lookup_connection_value(request->connection,
									   MHD_GET_ARGUMENT_KIND, name);
}

/* ---- requests ---- */

static void
base64(const char *in, char *out)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	size_t len = strlen(in);
	size_t i;

	for (i = 0; i < len; i += 3)
	{
		uint32_t v = (uint32_t) (unsigned char) in[i] << 16;

		if (i + 1 < len)
			v |= (uint32_t) (unsigned char) in[i + 1] << 8;
		if (i + 2 < len)
			v |= (unsigned char) in[i + 2];
		*out++ = digits[v >> 18];
		*out++ = digits[v >> 12 & 63];
		*out++ = i + 1 < len ? digits[v >> 6 & 63] : '=';
		*out++ = i + 2 < len ? digits[v & 63] : '=';
	}
	*out = '\0';
}

/* Basic credentials or the API key; no user set: all may come in. */
static bool
authorized(SimRequest *request)
{
	const char *basic = MHD_lookup_connection_value(request->connection,
													MHD_HEADER_KIND,
													"Authorization");
	const char *key = MHD_lookup_connection_value(request->connection,
												  MHD_HEADER_KIND, "X-API-Key");
	char plain[400];
	char expected[600] = "Basic ";
	bool good;

	pthread_rwlock_rdlock(&sim_settings_lock);
	snprintf(plain, sizeof(plain), "%s:%s", sim_settings.user,
			 sim_settings.password);
	base64(plain, expected + 6);
	good = (sim_settings.user[0] == '\0' && sim_settings.api_key[0] == '\0') ||
		(sim_settings.user[0] && basic && strcmp(basic, expected) == 0) ||
		(sim_settings.api_key[0] && key &&
		 strcmp(key, sim_settings.api_key) == 0);
	pthread_rwlock_unlock(&sim_settings_lock);
	return good;
}

static enum MHD_Result
pems_request(SimRequest *request, const char *method, const char *path)
{
	const char *org = MHD_lookup_connection_value(request->connection,
												  MHD_HEADER_KIND,
												  "organization");
	int now;

	if (!request->held)
	{
		request->held = true;
		now = atomic_fetch_add(&server.in_flight, 1) + 1;
		if (now > server.in_flight_max)
			server.in_flight_max = now;
		if (org)
			snprintf(request->header_org, sizeof(request->header_org), "%s",
					 org);
	}
	if (strcmp(method, "POST") != 0)
		return sim_answer_text(request, 405, "text/plain",
							   "method not allowed\n");
	if (request->too_big)
		return sim_answer_text(request, 413, "text/plain", "too large\n");
	if (!authorized(request))
		return sim_answer_alert(request, 401, "Authorization failed",
								"UNAUTHORIZED");
	if (request->json == NULL)
		request->json = sim_json_parse(request->body.data);
	if (request->json == NULL)
		return sim_answer_alert(request, 400, "The request is not valid JSON",
								"BAD_REQUEST");
	if (strcmp(path, "/axis/restservices/griddata") == 0)
		return sim_grid_request(request);
	if (strcmp(path, "/axis/restservices/userdefinedscreenservices") == 0)
		return sim_screen_request(request);
	return sim_answer_text(request, 404, "text/plain", "not found\n");
}

static enum MHD_Result
handle_request(void *arg, struct MHD_Connection *connection, const char *url,
			   const char *method, const char *version, const char *upload_data,
			   size_t *upload_size, void **state)
{
	SimRequest *request = *state;
	size_t base;

	(void) arg;
	(void) version;
	if (request == NULL)
	{
		request = sim_alloc(sizeof(SimRequest));
		request->connection = connection;
		request->started = sim_now();
		*state = request;
		return MHD_YES;
	}
	if (*upload_size > 0)
	{
		if (request->body.len + *upload_size > MAX_BODY)
			request->too_big = true;
		else
			sim_buf_add(&request->body, upload_data, *upload_size);
		*upload_size = 0;
		return MHD_YES;
	}
	if (strncmp(url, "/admin/", 7) == 0)
		return sim_admin_request(request, url + 7);
	pthread_rwlock_rdlock(&sim_settings_lock);
	base = strlen(sim_settings.base);
	if (strncmp(url, sim_settings.base, base) != 0)
		base = 0;
	pthread_rwlock_unlock(&sim_settings_lock);
	return pems_request(request, method, url + base);
}

static void
request_completed(void *arg, struct MHD_Connection *connection, void **state,
				  enum MHD_RequestTerminationCode code)
{
	SimRequest *request = *state;

	(void) arg;
	(void) connection;
	(void) code;
	if (request == NULL)
		return;
	if (request->held)
		atomic_fetch_sub(&server.in_flight, 1);
	sim_json_free(request->json);
	sim_buf_free(&request->body);
	free(request);
	*state = NULL;
}

static void
connection_changed(void *arg, struct MHD_Connection *connection,
				   void **socket_state,
				   enum MHD_ConnectionNotificationCode code)
{
	(void) arg;
	(void) connection;
	(void) socket_state;
	if (code == MHD_CONNECTION_NOTIFY_STARTED)
	{
		atomic_fetch_add(&server.connections, 1);
		atomic_fetch_add(&server.connections_total, 1);
	}
	else
		atomic_fetch_sub(&server.connections, 1);
}

static char *
read_text(const char *path)
{
	FILE *file = fopen(path, "r");
	SimBuf buf = {0};
	char chunk[4096];
	size_t len;

	if (file == NULL)
	{
		perror(path);
		exit(1);
	}
	while ((len = fread(chunk, 1, sizeof(chunk), file)) > 0)
		sim_buf_add(&buf, chunk, len);
	fclose(file);
	return buf.data;
}

/* The port, 0 where it could not be opened. */
int
sim_server_start(const SimServerOptions *options)
{
	struct sockaddr_in address = {0};
	unsigned flags = MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME;
	struct MHD_OptionItem tls[] = {{MHD_OPTION_END, 0, NULL},
								   {MHD_OPTION_END, 0, NULL},
								   {MHD_OPTION_END, 0, NULL}};
	const union MHD_DaemonInfo *info;
	pthread_condattr_t attr;
	pthread_t thread;

	address.sin_family = AF_INET;
	address.sin_port = htons((uint16_t) options->port);
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (options->tls_cert)
	{
		flags |= MHD_USE_TLS;
		tls[0].option = MHD_OPTION_HTTPS_MEM_CERT;
		tls[0].ptr_value = read_text(options->tls_cert);
		tls[1].option = MHD_OPTION_HTTPS_MEM_KEY;
		tls[1].ptr_value = read_text(options->tls_key);
	}
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&delays.changed, &attr);
	pthread_create(&thread, NULL, delay_thread, NULL);
	server.daemon =
		MHD_start_daemon(flags, (uint16_t) options->port, NULL, NULL,
						 handle_request, NULL, MHD_OPTION_SOCK_ADDR, &address,
						 MHD_OPTION_THREAD_POOL_SIZE,
						 (unsigned) options->threads,
						 MHD_OPTION_CONNECTION_LIMIT, 4096u,
						 MHD_OPTION_LISTEN_BACKLOG_SIZE, 1024u,
						 MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t) 131072,
						 MHD_OPTION_NOTIFY_COMPLETED, request_completed, NULL,
						 MHD_OPTION_NOTIFY_CONNECTION, connection_changed, NULL,
						 MHD_OPTION_ARRAY, tls, MHD_OPTION_END);
	if (server.daemon == NULL)
		return 0;
	info = MHD_get_daemon_info(server.daemon, MHD_DAEMON_INFO_BIND_PORT);
	return info ? info->port : 0;
}
