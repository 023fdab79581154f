// A bot on Slack's own client. What it is told to do stands in the messages; what it did is seen in the workspace.
'use strict';

const { App } = require('@slack/bolt');

const apiUrl = process.env.SLACK_API_URL;
const token = process.env.SLACK_BOT_TOKEN;
const app = new App({
  token,
  appToken: process.env.SLACK_APP_TOKEN,
  socketMode: true,
  clientOptions: { slackApiUrl: apiUrl, retryConfig: { retries: 2, minTimeout: 100 } },
});

const button = {
  type: 'actions',
  block_id: 'choice',
  elements: [{ type: 'button', action_id: 'allow', value: 'yes', style: 'primary', text: { type: 'plain_text', text: 'Allow' } }],
};
const section = (text) => ({ type: 'section', text: { type: 'mrkdwn', text } });

const orders = {
  hello: async ({ message, say, client }) => {
    await client.reactions.add({ channel: message.channel, timestamp: message.ts, name: 'eyes' });
    await say({
      text: 'Shall I?',
      blocks: [section('Shall I?'), button],
      metadata: { event_type: 'proof', event_payload: { key: 'k1' } },
    });
  },
  history: async ({ message, say, client }) => {
    const found = await client.conversations.history({ channel: message.channel, include_all_metadata: true, limit: 1 });
    const older = await client.conversations.history({
      channel: message.channel, include_all_metadata: true, latest: message.ts, limit: 10,
    });
    const keys = older.messages.map((one) => one.metadata?.event_payload?.key).filter(Boolean);
    await say(`newest ${found.messages[0].text}, more ${found.has_more}, keys ${keys}`);
  },
  who: async ({ message, say, client }) => {
    const { user } = await client.users.info({ user: message.user });
    await say(`you are ${user.real_name}`);
  },
  upload: async ({ message, client }) => {
    await client.filesUploadV2({ channel_id: message.channel, filename: 'report.md', content: '# done', initial_comment: 'see file' });
  },
  invalid: async ({ message, say, client }) => {
    try {
      await client.chat.postMessage({ channel: message.channel, text: 'x', blocks: [section('x'.repeat(3001))] });
    } catch (error) {
      await say(`refused: ${error.data.error}`);
    }
  },
};

app.message(async (context) => {
  const { message, say } = context;
  if (message.files) {
    const answer = await fetch(message.files[0].url_private, { headers: { Authorization: `Bearer ${token}` } });
    await say(`the file says ${await answer.text()}`);
  } else if (orders[message.text]) {
    await orders[message.text](context);
  }
});

app.event('app_mention', async ({ event, say }) => {
  await say({ text: 'in the thread', thread_ts: event.thread_ts ?? event.ts });
});

app.action('allow', async ({ ack, body, client }) => {
  await ack();
  await client.chat.update({ channel: body.channel.id, ts: body.message.ts, text: `allowed by ${body.user.id}`, blocks: [] });
  await client.chat.postEphemeral({ channel: body.channel.id, user: body.user.id, text: 'noted' });
});

app.command('/stakpak', async ({ ack, command, say }) => {
  await ack();
  await say(`command: ${command.text}`);
});

app.start();
