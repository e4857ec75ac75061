BEGIN TRANSACTION;
CREATE TABLE balances (
	balance INTEGER NOT NULL, 
	"key" TEXT NOT NULL, 
	spent_high BIGINT NOT NULL, 
	spent_low BIGINT NOT NULL, 
	PRIMARY KEY (balance), 
	UNIQUE ("key")
);
INSERT INTO "balances" VALUES(1,'a',0,0);
CREATE TABLE calls (
	n INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	id TEXT NOT NULL, 
	revision INTEGER NOT NULL, 
	at BIGINT NOT NULL, 
	label INTEGER NOT NULL, 
	party INTEGER NOT NULL, 
	body TEXT NOT NULL, 
	UNIQUE (id, revision)
);
INSERT INTO "calls" VALUES(1,'1',0,1772452800000000,1,1,'{"usage":{"input_tokens":100,"output_tokens":20},"cost_usd":250000000000,"contracted_usd":250000000000,"billed_usd":250000000000,"ended_at":1772452802000000}');
INSERT INTO "calls" VALUES(2,'1',1,1772452800000000,1,2,'{"usage":{"input_tokens":100,"output_tokens":20},"cost_usd":300000000000,"contracted_usd":300000000000,"billed_usd":300000000000,"ended_at":1772452802000000}');
INSERT INTO "calls" VALUES(3,'2',0,1772452800000000,4,2,'{"usage":{"input_tokens":100,"output_tokens":20},"cost_usd":250000000000,"contracted_usd":250000000000,"billed_usd":250000000000,"ended_at":1772452802000000}');
CREATE TABLE charges (
	n INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	id TEXT NOT NULL, 
	revision INTEGER NOT NULL, 
	at BIGINT NOT NULL, 
	label INTEGER NOT NULL, 
	party INTEGER NOT NULL, 
	body TEXT NOT NULL, 
	UNIQUE (id, revision)
);
INSERT INTO "charges" VALUES(1,'h1',0,1772452800000000,2,2,'{"quantity":"1","cost_usd":1500000000000}');
CREATE TABLE claims (
	"key" TEXT NOT NULL, 
	at BIGINT NOT NULL, 
	PRIMARY KEY ("key")
)
 WITHOUT ROWID

;
CREATE TABLE controls (
	kind TEXT NOT NULL, 
	"key" TEXT NOT NULL, 
	body TEXT NOT NULL, 
	PRIMARY KEY (kind, "key")
)
 WITHOUT ROWID

;
CREATE TABLE events (
	n INTEGER NOT NULL, 
	id TEXT NOT NULL, 
	at BIGINT NOT NULL, 
	body TEXT NOT NULL, 
	PRIMARY KEY (n), 
	UNIQUE (id)
);
INSERT INTO "events" VALUES(1,'e1',1772452800000000,'{"actor":"ops@example.com","action":"raise","subject":"budget:day"}');
CREATE TABLE holds (
	balance BIGINT NOT NULL, 
	hold_id TEXT NOT NULL, 
	amount_high BIGINT NOT NULL, 
	amount_low BIGINT NOT NULL, 
	expires_at BIGINT NOT NULL, 
	PRIMARY KEY (balance, hold_id)
)
 WITHOUT ROWID

;
INSERT INTO "holds" VALUES(1,'1',0,6,1795713030742237);
CREATE TABLE labels (
	label INTEGER NOT NULL, 
	"key" BLOB NOT NULL, 
	kind TEXT NOT NULL, 
	agent_id TEXT, 
	task_type TEXT, 
	project TEXT, 
	environment TEXT, 
	release TEXT, 
	node TEXT, 
	node_path TEXT, 
	role TEXT, 
	provider TEXT, 
	model TEXT, 
	cost_status TEXT, 
	failed INTEGER NOT NULL, 
	estimated INTEGER NOT NULL, 
	unpriced INTEGER NOT NULL, 
	detail TEXT NOT NULL, 
	PRIMARY KEY (label), 
	UNIQUE ("key")
);
INSERT INTO "labels" VALUES(1,X'4D0293B3C72EE08E3495EC755F1C32D9','call',NULL,NULL,NULL,NULL,NULL,NULL,NULL,'agent','openai','gpt-4.1-mini','exact',0,0,0,'{"currency":"USD","billing_mode":"payg","estimated":false,"reasons":[]}');
INSERT INTO "labels" VALUES(2,X'0AB4D81B7F5694ADBB8A0AB9E443E71A','charge',NULL,NULL,NULL,NULL,NULL,NULL,NULL,'agent',NULL,NULL,'exact',0,0,0,'{"kind":"tool","name":"web_search","unit":"calls"}');
INSERT INTO "labels" VALUES(3,X'1BF5147F6B8282D3B90A75B6ED1FD3C0','run',NULL,NULL,NULL,NULL,NULL,NULL,NULL,'agent',NULL,NULL,NULL,0,0,0,'{}');
INSERT INTO "labels" VALUES(4,X'F427837B57027C571BDAA18611577B6E','call','a',NULL,NULL,NULL,NULL,NULL,'n','agent','openai','gpt-4.1-mini','exact',0,0,0,'{"currency":"USD","billing_mode":"payg","estimated":false,"reasons":[]}');
CREATE TABLE meta (
	name TEXT NOT NULL, 
	value TEXT NOT NULL, 
	PRIMARY KEY (name)
);
INSERT INTO "meta" VALUES('schema_version','2');
INSERT INTO "meta" VALUES('controls_version','0');
CREATE TABLE outcomes (
	n INTEGER NOT NULL, 
	id TEXT NOT NULL, 
	revision INTEGER NOT NULL, 
	at BIGINT NOT NULL, 
	supersedes INTEGER, 
	success INTEGER, 
	value_pico BIGINT NOT NULL, 
	body TEXT NOT NULL, 
	PRIMARY KEY (n), 
	UNIQUE (id, revision)
);
INSERT INTO "outcomes" VALUES(1,'t1',0,1772452800000000,NULL,1,0,'{"success":true,"scores":{}}');
CREATE TABLE parties (
	party INTEGER NOT NULL, 
	"key" BLOB, 
	run_id TEXT, 
	invocation_id TEXT, 
	task_id TEXT, 
	user_id TEXT, 
	thread_id TEXT, 
	customer_id TEXT, 
	tags TEXT, 
	PRIMARY KEY (party), 
	UNIQUE ("key")
);
INSERT INTO "parties" VALUES(1,X'80A2B618ED151FA7208E0D30A9B94BC2','r1','i1',NULL,'u',NULL,NULL,NULL);
INSERT INTO "parties" VALUES(2,X'B23841DA02BDCEE3355CBCC1CB45C95F','r1','i1',NULL,NULL,NULL,NULL,NULL);
CREATE TABLE postings (
	label INTEGER NOT NULL, 
	day INTEGER NOT NULL, 
	party INTEGER NOT NULL, 
	n BIGINT NOT NULL, 
	at BIGINT NOT NULL, 
	records INTEGER NOT NULL, 
	input_tokens BIGINT NOT NULL, 
	cache_read_tokens BIGINT NOT NULL, 
	cache_write_5m_tokens BIGINT NOT NULL, 
	cache_write_30m_tokens BIGINT NOT NULL, 
	cache_write_1h_tokens BIGINT NOT NULL, 
	cache_write_12h_tokens BIGINT NOT NULL, 
	audio_input_tokens BIGINT NOT NULL, 
	cached_audio_tokens BIGINT NOT NULL, 
	output_tokens BIGINT NOT NULL, 
	audio_output_tokens BIGINT NOT NULL, 
	reasoning_tokens BIGINT NOT NULL, 
	web_searches BIGINT NOT NULL, 
	requests BIGINT NOT NULL, 
	cost_pico BIGINT NOT NULL, 
	contracted_pico BIGINT NOT NULL, 
	billed_pico BIGINT NOT NULL, 
	PRIMARY KEY (label, day, party, n)
)
 WITHOUT ROWID

;
INSERT INTO "postings" VALUES(1,20514,1,-1,1772452800000000,-1,-100,0,0,0,0,0,0,0,-20,0,0,0,-1,-250000000000,-250000000000,-250000000000);
INSERT INTO "postings" VALUES(1,20514,1,1,1772452800000000,1,100,0,0,0,0,0,0,0,20,0,0,0,1,250000000000,250000000000,250000000000);
INSERT INTO "postings" VALUES(1,20514,2,2,1772452800000000,1,100,0,0,0,0,0,0,0,20,0,0,0,1,300000000000,300000000000,300000000000);
INSERT INTO "postings" VALUES(2,20514,2,1,1772452800000000,1,0,0,0,0,0,0,0,0,0,0,0,0,0,1500000000000,1500000000000,1500000000000);
INSERT INTO "postings" VALUES(4,20514,2,3,1772452800000000,1,100,0,0,0,0,0,0,0,20,0,0,0,1,250000000000,250000000000,250000000000);
CREATE TABLE pruned (
	"key" BLOB NOT NULL, 
	PRIMARY KEY ("key")
)
 WITHOUT ROWID

;
CREATE TABLE runs (
	n INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	id TEXT NOT NULL, 
	revision INTEGER NOT NULL, 
	at BIGINT NOT NULL, 
	label INTEGER NOT NULL, 
	party INTEGER NOT NULL, 
	body TEXT NOT NULL, 
	UNIQUE (id, revision)
);
INSERT INTO "runs" VALUES(1,'r1',0,1772452800000000,3,2,'{"status":"completed","ended_at":1772452860000000,"steps":0}');
CREATE TABLE used_figures (
	name TEXT NOT NULL, 
	PRIMARY KEY (name)
)
 WITHOUT ROWID

;
INSERT INTO "used_figures" VALUES('cost_pico');
INSERT INTO "used_figures" VALUES('input_tokens');
INSERT INTO "used_figures" VALUES('output_tokens');
INSERT INTO "used_figures" VALUES('requests');
CREATE INDEX parties_run ON parties (run_id);
CREATE INDEX parties_task ON parties (task_id);
CREATE INDEX parties_thread ON parties (thread_id);
CREATE INDEX calls_at ON calls (at);
CREATE INDEX calls_party ON calls (party);
CREATE INDEX charges_at ON charges (at);
CREATE INDEX charges_party ON charges (party);
CREATE INDEX runs_at ON runs (at);
CREATE INDEX runs_party ON runs (party);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('calls',3);
INSERT INTO "sqlite_sequence" VALUES('charges',1);
INSERT INTO "sqlite_sequence" VALUES('runs',1);
COMMIT;
