// The configuration names the document, wherever a reverse proxy shows this page.
SwaggerUIBundle({
  dom_id: '#swagger-ui',
  configUrl: 'swagger-ui-config.json',
  deepLinking: true,
  presets: [SwaggerUIBundle.presets.apis],
});
