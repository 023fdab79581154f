// A bot of discord.js against the fake platform: logs in, answers, handles a button, continues after a drop.
// The test that runs it plays the people and checks what the platform saw.

import { ActionRowBuilder, ButtonBuilder, ButtonStyle, Client, Events, GatewayIntentBits, MessageFlags } from "discord.js";

const { PROOF_API, PROOF_TOKEN } = process.env;
const client = new Client({
  intents: [
    GatewayIntentBits.Guilds,
    GatewayIntentBits.GuildMessages,
    GatewayIntentBits.DirectMessages,
    GatewayIntentBits.MessageContent,
  ],
  rest: { api: `${PROOF_API}/api`, version: "10" },
});

const fail = (error) => {
  console.error(error);
  process.exit(1);
};
process.on("unhandledRejection", fail);
client.on(Events.Error, fail);
client.on(Events.ShardResume, (shard, replayed) => console.log(`resumed, ${replayed} replayed`));

client.on(Events.MessageCreate, async (message) => {
  if (message.author.bot) return;
  console.log(`${message.author.username}: ${message.content}`);
  if (message.content === "bye") {
    await client.destroy();
    process.exit(0);
  }
  if (message.attachments.size > 0) {
    const file = message.attachments.first();
    const content = Buffer.from(await (await fetch(file.url)).arrayBuffer());
    await message.reply({ content: `got ${file.name}`, files: [{ attachment: content, name: "back.txt" }] });
    return;
  }
  await message.react("👀");
  await message.channel.sendTyping();
  const allow = new ButtonBuilder().setCustomId("a:1:allow").setLabel("Allow").setStyle(ButtonStyle.Success);
  await message.reply({
    content: `echo: ${message.content}`,
    components: [new ActionRowBuilder().addComponents(allow)],
    nonce: message.id,
    enforceNonce: true,
  });
});

client.on(Events.InteractionCreate, async (interaction) => {
  if (!interaction.isButton()) return;
  await interaction.deferUpdate();
  await interaction.message.edit({ content: `${interaction.user.username} pressed ${interaction.customId}`, components: [] });
  await interaction.followUp({ content: "noted", flags: MessageFlags.Ephemeral });
});

await client.login(PROOF_TOKEN);
